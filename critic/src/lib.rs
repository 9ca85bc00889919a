//! Critics: models that find flaws in reasoning, the data that makes them and the measures that judge them.
