//! Tables for people: columns as wide as their widest cell, no rules, no colour.

/// Widest cell; longer ones are cut with an ellipsis.
const CELL_MAX: usize = 48;

/// Rows under a heading.
pub(super) fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let mut lines = vec![heading.map(str::to_owned)];
    lines.extend(rows.iter().map(|row| row.each_ref().map(|c| cell(c))));
    let mut widths = [0; N];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for line in lines {
        let mut text = String::new();
        for (width, cell) in widths.iter().zip(&line) {
            text.push_str(&format!("{cell:<width$}  "));
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

/// Pairs, one a line; those without a value are left out.
pub(super) fn pairs(pairs: &[(&str, Option<String>)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for (name, value) in pairs {
        if let Some(value) = value {
            let value: String = super::remote::one_line(value);
            out.push_str(&format!("{name:<width$}  {value}\n"));
        }
    }
    out
}

/// What others wrote must not move the cursor.
fn cell(text: &str) -> String {
    let plain = super::remote::one_line(text);
    if plain.is_empty() {
        return "-".to_owned();
    }
    if plain.chars().count() <= CELL_MAX {
        return plain;
    }
    plain.chars().take(CELL_MAX - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_strange_text_stays_in_its_cell() {
        let rows = [
            ["a".to_owned(), "1".to_owned()],
            ["b\u{1b}[31m\nc".to_owned(), String::new()],
        ];
        assert_eq!(
            table(["NAME", "N"], &rows),
            "NAME      N\na         1\nb [31m c  -\n"
        );
        let long = [["x".repeat(100)]];
        assert!(
            table(["A"], &long)
                .lines()
                .all(|l| l.chars().count() <= CELL_MAX)
        );
    }

    #[test]
    fn pairs_without_a_value_are_left_out() {
        let text = pairs(&[("id", Some("a".into())), ("rating", None)]);
        assert_eq!(text, "id      a\n");
    }
}
