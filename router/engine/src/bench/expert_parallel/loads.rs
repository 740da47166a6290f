//! What experts a run's gates chose, as it is reported: of a model's own gates only, for the simulator to draw by.

use std::path::Path;

use reprise_expert_parallel::record::{self, Record};
use reprise_scheduler::{ModelLayout, SubLayerKind, placement::Loads};
use serde::{Deserialize, Serialize};

use super::{ExpertParallel, ExpertParallelError};

/// By sub-layer the parts of each expert; nothing of those that are not gated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReportedLoads {
    /// Counted before the runs; experts were placed by these.
    counted: Vec<Vec<f64>>,
    /// What came while the runs were measured.
    came: Vec<Vec<f64>>,
}

impl ReportedLoads {
    /// None, if gates were told what to choose.
    pub(super) fn of<'a>(
        options: &ExpertParallel,
        layout: &ModelLayout,
        counted: &Loads,
        records: impl IntoIterator<Item = &'a Record>,
    ) -> Option<Self> {
        if options.skew.is_some() {
            return None;
        }
        let came = record::loads(records, layout);
        let table = |loads: &Loads| (0..loads.sub_layers()).map(|at| loads.experts(at).to_vec()).collect();
        Some(Self { counted: table(counted), came: table(&came) })
    }

    /// Those that were counted and those that came, of a model like this.
    pub(super) fn read(path: &Path, layout: &ModelLayout) -> Result<[Loads; 2], ExpertParallelError> {
        let error = |source| ExpertParallelError::Text { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(error)?;
        let error = |source| ExpertParallelError::Loads { path: path.to_owned(), source };
        let Self { counted, came } = serde_json::from_str(&text).map_err(error)?;
        let fits = |table: &Vec<Vec<f64>>| {
            let experts = layout.sub_layers.iter().map(|kind| match kind {
                SubLayerKind::Experts { experts, .. } => usize::from(*experts),
                SubLayerKind::Attention | SubLayerKind::DenseFeedForward => 0,
            });
            table.iter().map(Vec::len).eq(experts)
                && table.iter().flatten().all(|load| load.is_finite() && *load >= 0.0)
        };
        if !fits(&counted) || !fits(&came) {
            return Err(ExpertParallelError::OtherLoads(path.to_owned()));
        }
        Ok([counted, came]
            .map(|table| Loads::with(layout, |sub_layer, expert, _| table[sub_layer][usize::from(expert)])))
    }
}

#[cfg(test)]
mod tests {
    use reprise_scheduler::{Backend, testing::Fake};

    use super::*;

    #[test]
    fn loads_of_this_model_are_read_and_no_others() {
        let [model, other] = ["ag", "agg"].map(|letters| Fake::new(letters, 1, 1, 1));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("loads.json");
        let [counted, came] = [vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], vec![7.0, 0.0, 0.0, 0.0, 0.0, 1.0]];
        let mut loads =
            ReportedLoads { counted: vec![vec![], counted.clone()], came: vec![vec![], came.clone()] };
        let read = |loads: &str, of: &Fake| {
            std::fs::write(&path, loads).unwrap();
            ReportedLoads::read(&path, of.layout())
        };
        let text = serde_json::to_string(&loads).unwrap();
        let found = read(&text, &model).unwrap();
        assert_eq!(found.each_ref().map(|loads| loads.experts(1)), [&counted[..], &came[..]]);
        let found = read(&text, &other);
        assert!(matches!(found, Err(ExpertParallelError::OtherLoads(_))), "{found:?}");
        let found = read("{}", &model);
        assert!(matches!(found, Err(ExpertParallelError::Loads { .. })), "{found:?}");
        loads.came[1][2] = -1.0;
        let found = read(&serde_json::to_string(&loads).unwrap(), &model);
        assert!(matches!(found, Err(ExpertParallelError::OtherLoads(_))), "{found:?}");
    }
}
