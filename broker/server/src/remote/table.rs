//! Lists as tables, and one thing as lines.

use serde_json::Value;

/// What a column is called, and which field stands in it.
pub(super) type Column = (&'static str, &'static str);

/// A line for each item, under a line of headings.
pub(super) fn table(columns: &[Column], items: &[Value]) -> String {
    let headings: Vec<String> = columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
    let row =
        |item: &Value| -> Vec<String> { columns.iter().map(|(_, field)| cell(&item[*field])).collect() };
    let rows: Vec<Vec<String>> = std::iter::once(headings).chain(items.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line += &format!("{cell:width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// A line for each field; those of what lies within have its name in front.
pub(super) fn fields(value: &Value) -> String {
    let mut all = Vec::new();
    flatten("", value, &mut all);
    let width = all.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    all.into_iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

fn flatten(path: &str, value: &Value, all: &mut Vec<(String, String)>) {
    let name = |part: &str| if path.is_empty() { part.to_owned() } else { format!("{path}.{part}") };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(field, value)| flatten(&name(field), value, all)),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().enumerate().for_each(|(index, item)| flatten(&name(&index.to_string()), item, all));
        }
        value => all.push((path.to_owned(), cell(value))),
    }
}

/// What stands in a cell. Control characters, which a client id may have, would move the cursor.
pub(super) fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    };
    text.chars().map(|letter| if letter.is_control() { '\u{FFFD}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Columns are as wide as what is in them; what is missing is a dash, and nothing moves the cursor.
    #[test]
    fn tables_line_up() {
        let items = [json!({"a": "long text", "b": 1}), json!({"a": "\u{1b}[2J"})];
        assert_eq!(
            table(&[("A", "a"), ("B", "b")], &items),
            "A          B\nlong text  1\n\u{FFFD}[2J       -\n"
        );
    }

    /// What lies within is named by its place.
    #[test]
    fn fields_are_named_by_their_place() {
        let value = json!({"a": {"b": [1, 2]}, "list": [{"c": true}]});
        assert_eq!(fields(&value), "a.b       1 2\nlist.0.c  true\n");
    }
}
