use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::DataError;

/// Recorded arrival times, rebased to the first one that is used and multiplied by a factor.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrivals(Vec<Duration>);

#[derive(Debug, Deserialize)]
struct Row {
    arrival_s: f64,
}

impl Arrivals {
    /// Reads the `arrival_s` column of `path` from row `offset` on. Every time is multiplied by `scale`:
    /// 2 stretches the trace to half its rate, 0.5 doubles the rate.
    pub fn read(path: &Path, offset: usize, count: usize, scale: f64) -> Result<Self, DataError> {
        let file_error = |message: String| DataError::File { path: path.to_owned(), message };
        if !(scale.is_finite() && scale > 0.0) {
            return Err(file_error(format!("the scale must be a positive number, not {scale}")));
        }
        let mut reader = csv::Reader::from_path(path).map_err(|error| file_error(error.to_string()))?;
        let mut times = Vec::with_capacity(count);
        for (index, row) in reader.deserialize::<Row>().skip(offset).take(count).enumerate() {
            // Line 1 is the header.
            let row_error =
                |message| DataError::Row { path: path.to_owned(), line: offset + index + 2, message };
            let time = row.map_err(|error| row_error(error.to_string()))?.arrival_s;
            if !time.is_finite() || times.last().is_some_and(|&last| time < last) {
                return Err(row_error(format!("arrival_s {time} is before the row above, or not a number")));
            }
            times.push(time);
        }
        if times.len() < count {
            let have = times.len();
            return Err(file_error(format!(
                "{count} arrivals are needed from row {offset} on, but it holds {have}"
            )));
        }
        let first = times.first().copied().unwrap_or(0.0);
        Ok(Self(times.into_iter().map(|time| Duration::from_secs_f64((time - first) * scale)).collect()))
    }

    #[must_use]
    pub fn times(&self) -> &[Duration] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn times_are_rebased_and_scaled() {
        let file = file("arrival_s,input_tokens,output_tokens\n0.0,1,1\n4.0,1,1\n5.0,1,1\n9.5,1,1\n");
        let arrivals = Arrivals::read(file.path(), 1, 3, 0.5).unwrap();
        let seconds: Vec<f64> = arrivals.times().iter().map(Duration::as_secs_f64).collect();
        assert_eq!(seconds, [0.0, 0.5, 2.75]);
    }

    #[test]
    fn too_few_or_unordered_rows_are_refused() {
        let file = file("arrival_s\n0.0\n4.0\n3.0\n");
        assert!(Arrivals::read(file.path(), 0, 2, 1.0).is_ok());
        let error = Arrivals::read(file.path(), 0, 3, 1.0).unwrap_err().to_string();
        assert!(error.contains(":4:"), "{error}");
        assert!(Arrivals::read(file.path(), 2, 2, 1.0).is_err());
        assert!(Arrivals::read(file.path(), 0, 2, 0.0).is_err());
    }
}
