//! How much each input of a matrix matters, as a calibration text shows it.
//!
//! The collector is an adapter that changes nothing: the one place where projections can be reached
//! shows it every input.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::Tensor;

use crate::{
    Result,
    adapter::{Adapter, AdapterId, Proj, Site},
    model::Decoder,
    pass::Rows,
    recipe::Place,
    sequence::Sequence,
};

/// Mean squares of the inputs of matrices, one number for each column.
#[derive(Debug, Clone, Default)]
pub struct Importance {
    columns: HashMap<Place, Vec<f32>>,
}

impl Importance {
    /// Runs `texts` through `decoder` and notes what its matrices meet.
    ///
    /// # Errors
    /// Tokens that do not fit the model, or a non-finite output.
    pub fn measure(decoder: &Arc<Decoder>, texts: &[Vec<u32>]) -> Result<Self> {
        let collector = Arc::new(Collector::default());
        for text in texts {
            let adapter: Arc<dyn Adapter> = collector.clone();
            let mut sequence = Sequence::new(Arc::clone(decoder), Some(adapter));
            sequence.extend_complete(text, &mut |_, _| Ok(()))?;
        }
        let sums = std::mem::take(&mut *collector.lock());
        let tied = decoder.spec.tied;
        let columns = sums.into_iter().map(|(site, sum)| {
            let place = match site.proj {
                // The embedding is what the head's inputs meet.
                Proj::Head if tied => Place::Embedding,
                _ => Place::Projection(site),
            };
            let mean = |square: &f64| (square / sum.rows as f64) as f32;
            (place, sum.squares.iter().map(mean).collect())
        });
        Ok(Self { columns: columns.collect() })
    }

    /// The numbers of the matrix at `place`, if the calibration met it.
    pub fn of(&self, place: Place) -> Option<&[f32]> {
        self.columns.get(&place).map(Vec::as_slice)
    }

    /// Number of matrices that the calibration met.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether it met none.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }
}

#[derive(Debug, Default)]
struct Sum {
    squares: Vec<f64>,
    rows: usize,
}

/// Changes nothing and adds up squares.
#[derive(Debug, Default)]
struct Collector {
    sums: Mutex<BTreeMap<Site, Sum>>,
}

impl Collector {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Site, Sum>> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Adapter for Collector {
    fn id(&self) -> AdapterId {
        AdapterId(*b"importance of inputs, collected.")
    }

    fn apply(&self, site: Site, _rows: &Rows, x_ti: &Tensor, y_to: Tensor) -> Result<Tensor> {
        let (rows, cols) = x_ti.dims2()?;
        let values = x_ti.flatten_all()?.to_vec1::<f32>()?;
        let mut sums = self.lock();
        let sum = sums.entry(site).or_default();
        sum.squares.resize(cols, 0.0);
        sum.rows += rows;
        for row in values.chunks_exact(cols) {
            for (square, value) in sum.squares.iter_mut().zip(row) {
                *square += f64::from(*value) * f64::from(*value);
            }
        }
        Ok(y_to)
    }
}
