//! The price of a job.

use super::Manifest;

/// The price of a job in US dollars: list prices of us-east-1, without free tiers and data transfer.
///
/// <https://aws.amazon.com/s3/pricing/> <https://aws.amazon.com/lambda/pricing/>
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// S3 Batch Operations: the job.
    pub job: f64,
    /// S3 Batch Operations: the objects.
    pub objects: f64,
    /// S3: one GET request for each object.
    pub requests: f64,
    /// Lambda: one invocation for each object.
    pub invocations: f64,
    /// Lambda: the duration of the invocations.
    pub time: f64,
}

impl Price {
    const JOB: f64 = 0.25;
    const MILLION_OBJECTS: f64 = 1.00;
    const MILLION_GETS: f64 = 0.40;
    const MILLION_INVOCATIONS: f64 = 0.20;
    /// On arm64.
    const GB_SECOND: f64 = 0.000_013_333_4;

    /// The function's memory for which the durations below hold.
    const GB: f64 = 0.25;
    /// Duration of one request to S3 and one to Logstash.
    const SECONDS_PER_OBJECT: f64 = 0.1;
    /// Duration of writing and compressing the events of a million compressed bytes.
    const SECONDS_PER_MEGABYTE: f64 = 0.6;

    /// Returns the price of a job for the objects of a manifest.
    pub fn of(manifest: &Manifest) -> Price {
        let (objects, megabytes) = (manifest.objects as f64, manifest.object_bytes as f64 / 1e6);
        let millions = objects / 1e6;
        let seconds = objects * Price::SECONDS_PER_OBJECT + megabytes * Price::SECONDS_PER_MEGABYTE;
        Price {
            job: Price::JOB,
            objects: millions * Price::MILLION_OBJECTS,
            requests: millions * Price::MILLION_GETS,
            invocations: millions * Price::MILLION_INVOCATIONS,
            time: seconds * Price::GB * Price::GB_SECOND,
        }
    }

    /// Returns the sum of all parts.
    pub fn total(&self) -> f64 {
        self.job + self.objects + self.requests + self.invocations + self.time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_a_million_objects() {
        let manifest = Manifest { objects: 1_000_000, object_bytes: 100_000_000_000, ..Manifest::default() };
        let price = Price::of(&manifest);
        assert_eq!((price.job, price.objects, price.requests, price.invocations), (0.25, 1.0, 0.4, 0.2));
        // 100,000 s for the objects and 60,000 s for their bytes, 0.25 GB each.
        assert!((price.time - 0.533_336).abs() < 1e-6, "{}", price.time);
        assert!((price.total() - 2.383_336).abs() < 1e-6, "{}", price.total());
    }
}
