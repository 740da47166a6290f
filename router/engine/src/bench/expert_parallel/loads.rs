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
    pub(super) fn new<'a>(
        options: &ExpertParallel,
        layout: &ModelLayout,
        counted: &Loads,
        records: impl IntoIterator<Item = &'a Record>,
    ) -> Self {
        let came = record::loads(records, layout, options.experts_per_group);
        let table = |loads: &Loads| (0..loads.sub_layers()).map(|at| loads.experts(at).to_vec()).collect();
        Self { counted: table(counted), came: table(&came) }
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
    use super::*;

    fn layout(experts: u16) -> ModelLayout {
        ModelLayout {
            sub_layers: vec![SubLayerKind::Attention, SubLayerKind::Experts { experts, top_k: 2 }],
            vocabulary: 8,
            rows: 8,
            kv_blocks: 8,
            kv_block_tokens: 4,
            context_length: 32,
        }
    }

    #[test]
    fn loads_of_this_model_are_read_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("loads.json");
        let loads =
            ReportedLoads { counted: vec![vec![], vec![1.0, 2.0]], came: vec![vec![], vec![5.0, 0.0]] };
        std::fs::write(&path, serde_json::to_string(&loads).unwrap()).unwrap();
        let [counted, came] = ReportedLoads::read(&path, &layout(2)).unwrap();
        assert_eq!((counted.experts(1), came.experts(1)), (&[1.0, 2.0][..], &[5.0, 0.0][..]));
        let other = ReportedLoads::read(&path, &layout(3));
        assert!(matches!(other, Err(ExpertParallelError::OtherLoads(_))), "{other:?}");
        for (text, is_read) in [("{}", false), (r#"{"counted": [[], [1, 1]], "came": [[], [1, -1]]}"#, true)]
        {
            std::fs::write(&path, text).unwrap();
            let error = ReportedLoads::read(&path, &layout(2)).unwrap_err();
            assert_eq!(matches!(error, ExpertParallelError::OtherLoads(_)), is_read, "{text}: {error}");
        }
    }
}
