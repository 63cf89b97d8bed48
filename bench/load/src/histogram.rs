//! Latencies in logarithmic buckets of 1/32 of an octave step: at most 3 % error, no allocation while recording.

const STEP_BITS: u32 = 5;
const STEPS: usize = 1 << STEP_BITS;

pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max_ns: u64,
}

impl Histogram {
    pub fn new() -> Self {
        Self {
            buckets: vec![0; (64 - STEP_BITS as usize + 1) * STEPS],
            count: 0,
            max_ns: 0,
        }
    }

    pub fn clear(&mut self) {
        self.buckets.fill(0);
        self.count = 0;
        self.max_ns = 0;
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn max_ns(&self) -> u64 {
        self.max_ns
    }

    pub fn record(&mut self, value_ns: u64) {
        self.buckets[bucket(value_ns)] += 1;
        self.count += 1;
        self.max_ns = self.max_ns.max(value_ns);
    }

    /// The lower edge of the bucket in which the given share of the recorded values is reached.
    pub fn quantile_ns(&self, share: f64) -> u64 {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, &count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return lower_edge(index);
            }
        }
        self.max_ns
    }
}

fn bucket(value_ns: u64) -> usize {
    if value_ns < STEPS as u64 {
        return value_ns as usize;
    }
    let octave = value_ns.ilog2();
    let step = (value_ns >> (octave - STEP_BITS)) as usize - STEPS;
    (octave - STEP_BITS + 1) as usize * STEPS + step
}

fn lower_edge(index: usize) -> u64 {
    if index < STEPS {
        return index as u64;
    }
    let shift = (index / STEPS - 1) as u32;
    ((STEPS + index % STEPS) as u64) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_and_buckets_agree() {
        for value in (0..2_000).chain([u64::from(u32::MAX), 1 << 40, u64::MAX]) {
            let edge = lower_edge(bucket(value));
            assert!(
                edge <= value && value - edge <= edge / 32,
                "{value} in a bucket that starts at {edge}"
            );
        }
    }

    #[test]
    fn quantiles_of_a_ramp() {
        let mut histogram = Histogram::new();
        (1..=1_000).for_each(|value| histogram.record(value * 1_000));
        let median = histogram.quantile_ns(0.5) as f64;
        assert!((median / 500_000.0 - 1.0).abs() < 0.04);
        assert_eq!(histogram.max_ns(), 1_000_000);
    }
}
