//! Passes the running interpreter's version on as cfgs (`Py_3_12`, …).

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
