//! Text in columns that line up.

use crate::console::{Look, Paint};

/// One cell.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cell {
    text: String,
    look: Look,
    align: Align,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Align {
    #[default]
    Left,
    Right,
}

impl Cell {
    /// A number, at the right of its column.
    pub fn number(value: impl std::fmt::Display) -> Cell {
        Cell { text: value.to_string(), align: Align::Right, ..Cell::default() }
    }

    /// The same with a look.
    pub fn look(mut self, look: Look) -> Cell {
        self.look = look;
        self
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell { text: text.into(), ..Cell::default() }
    }
}

/// Rows of cells.
#[derive(Clone, Debug, Default)]
pub struct Grid {
    indent: usize,
    rows: Vec<Vec<Cell>>,
}

/// Blanks between two columns.
const GAP: usize = 2;

impl Grid {
    /// A grid whose first row names the columns; those of numbers begin with `>`.
    pub fn titled(titles: &[&str]) -> Grid {
        let cell = |title: &&str| match title.strip_prefix('>') {
            Some(title) => Cell::number(title).look(Look::Dim),
            None => Cell::from(*title).look(Look::Dim),
        };
        Grid { indent: 0, rows: vec![titles.iter().map(cell).collect()] }
    }

    /// A grid without titles whose lines begin with so many blanks.
    pub fn indented(indent: usize) -> Grid {
        Grid { indent, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The lines.
    pub fn render(&self, paint: Paint) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|at| self.rows.iter().filter_map(|row| row.get(at)).map(Cell::width).max().unwrap_or(0))
            .collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = " ".repeat(self.indent);
            // Blanks are written only before something, so that no line ends with them.
            let mut pending = 0;
            for (cell, width) in row.iter().zip(&widths) {
                let padding = width - cell.width();
                if cell.text.is_empty() {
                    pending += width + GAP;
                    continue;
                }
                if cell.align == Align::Right {
                    pending += padding;
                }
                line += &" ".repeat(std::mem::take(&mut pending));
                line += &paint.text(cell.look, &cell.text);
                pending = GAP + if cell.align == Align::Left { padding } else { 0 };
            }
            out += line.trim_end();
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_without_blanks_at_the_end() {
        let mut grid = Grid::titled(&["port", ">rx", "note"]);
        grid.row(["pod1".into(), Cell::number(7), "".into()]);
        grid.row(["a".into(), Cell::number(12345), "über".into()]);
        let expected = "port     rx  note\npod1      7\na     12345  über\n";
        assert_eq!(grid.render(Paint::NONE), expected);
    }

    #[test]
    fn looks_take_no_width() {
        let paint = Paint::choose(crate::args::When::Always, &std::io::stdout(), false);
        let mut grid = Grid::indented(2);
        grid.row([Cell::from("x").look(Look::Red), "y".into()]);
        grid.row(["long".into(), "y".into()]);
        assert_eq!(grid.render(paint), "  \x1b[31mx\x1b[0m     y\n  long  y\n");
    }
}
