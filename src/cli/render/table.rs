//! Tables without borders: one row a line where the width allows it, so that other tools can read them too.

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table as Grid};

/// A table while it is filled.
#[derive(Clone, Debug)]
pub struct Table {
    header: Vec<Column>,
    rows: Vec<Vec<String>>,
}

/// A column's head.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    name: &'static str,
    alignment: CellAlignment,
    whole: bool,
}

impl Column {
    /// Its head.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Text, from the left.
    #[must_use]
    pub const fn text(name: &'static str) -> Self {
        Self { name, alignment: CellAlignment::Left, whole: false }
    }

    /// Text that is never broken: an id.
    #[must_use]
    pub const fn id(name: &'static str) -> Self {
        Self { name, alignment: CellAlignment::Left, whole: true }
    }

    /// A number, from the right, never broken.
    #[must_use]
    pub const fn number(name: &'static str) -> Self {
        Self { name, alignment: CellAlignment::Right, whole: true }
    }
}

impl Table {
    /// A table without rows.
    #[must_use]
    pub fn new(header: impl IntoIterator<Item = Column>) -> Self {
        Self { header: header.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row, a cell for each column.
    pub fn push(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }

    /// The table as text; with a width, cells of text are wrapped to fit it.
    #[must_use]
    pub fn render(&self, width: Option<u16>) -> String {
        let mut grid = Grid::new();
        grid.load_style(NOTHING);
        match width {
            Some(width) => grid.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
            None => grid.set_content_arrangement(ContentArrangement::Disabled),
        };
        grid.set_header(self.header.iter().map(|column| Cell::new(column.name).set_alignment(column.alignment)));
        for row in &self.rows {
            let cells = row.iter().zip(&self.header);
            grid.add_row(cells.map(|(text, column)| Cell::new(text).set_alignment(column.alignment)));
        }
        for (index, column) in self.header.iter().enumerate() {
            if let Some(shape) = grid.column_mut(index) {
                shape.set_padding((0, 2));
                if column.whole {
                    shape.set_constraint(ColumnConstraint::ContentWidth);
                }
            }
        }
        grid.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new([Column::id("RUN"), Column::text("WHY"), Column::number("COST")]);
        table.push(["01K".into(), "a long reason that goes on and on".into(), "$0.05".into()]);
        table.push(["02K".into(), "-".into(), "$12.00".into()]);
        table
    }

    #[test]
    fn without_a_width_a_row_is_a_line() {
        insta::assert_snapshot!(table().render(None));
    }

    #[test]
    fn with_a_width_text_wraps_and_ids_do_not() {
        let text = table().render(Some(36));
        assert!(text.lines().all(|line| line.chars().count() <= 36), "{text}");
        insta::assert_snapshot!(text);
    }
}
