"""The side-by-side measurement. `plan` says what is measured, `measure` does it, `aims` judges it, `render` and `plots` show it."""
