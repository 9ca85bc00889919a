//! How much each input of a matrix matters, as a calibration text shows it.

use std::collections::HashMap;

use crate::recipe::Place;

/// Mean squares of the inputs of matrices, one number for each column.
#[derive(Debug, Clone, Default)]
pub struct Importance {
    columns: HashMap<Place, Vec<f32>>,
}

impl Importance {
    /// The numbers of the matrix at `place`, if the calibration met it.
    pub fn of(&self, place: Place) -> Option<&[f32]> {
        self.columns.get(&place).map(Vec::as_slice)
    }
}
