//! The reference of directives, made from the table.

use std::fmt::Write as _;

use super::table::{Apply, LATER, Row, TABLE};
use crate::gunicorn::docs::Document;

/// The generated document.
pub fn document() -> Document {
    Document { path: "reference/directives.md", text: markdown() }
}

fn markdown() -> String {
    let mut text = String::from(
        "<!-- Made from the table of directives by `cargo run -p config --example gendocs -- docs`. Change it there. -->\n\
         # Directives\n\n\
         The language is nginx's. What stands here means what it means in nginx, with its defaults and its rules of \
         inheritance; where it differs, the entry says so. `monoceros check` tells which directives of a file change \
         nothing here, and why.\n\n\
         - Sizes are bytes, or have a unit of 1024: `8k`, `1m`, in some places `1g`.\n\
         - Times are seconds, or have units: `500ms`, `30s`, `5m`, `1h30m`, `7d`, `1y`.\n\
         - Relative paths start at the prefix; those of `include` and `auth_basic_user_file` beside the main file.\n\
         - A directive marked *own* is not one of nginx's.\n",
    );
    let mut feature = "";
    for row in TABLE.rows.iter().filter(|r| r.feature != LATER) {
        if row.feature != feature {
            feature = row.feature;
            let _ = writeln!(text, "\n## {feature}");
        }
        entry(&mut text, row);
    }
    let _ = writeln!(
        text,
        "\n## {LATER}\n\n\
         nginx has them too. What does something is an error that says so; what only says how another of them does its \
         work is accepted, and changes nothing as long as that other is not there.\n"
    );
    later(&mut text);
    text
}

fn entry(text: &mut String, row: &Row) {
    let _ = writeln!(text, "\n### {}\n", row.name);
    let mut facts = vec![format!("in {}", row.contexts.names().join(", "))];
    if row.block {
        facts.push("a block".to_owned());
    }
    if !row.default.is_empty() {
        facts.push(format!("default `{}`", row.default));
    }
    if row.repeats {
        facts.push("may be repeated".to_owned());
    }
    if row.ours {
        facts.push("*own*".to_owned());
    }
    let _ = writeln!(text, "{}\n\n{}", facts.join(" · "), row.doc);
    match row.apply {
        Apply::Quiet(_, why) | Apply::Checked(_, why) => {
            let _ = writeln!(text, "\nChanges nothing: {why}.");
        }
        Apply::NotYet(why) | Apply::OnlyOff(why) => {
            let _ = writeln!(text, "\nNot yet: {why}.");
        }
        _ => {}
    }
    if !row.differs.is_empty() {
        let _ = writeln!(text, "\nDifference from nginx: {}", row.differs);
    }
}

/// By what they wait for.
fn later(text: &mut String) {
    let rows: Vec<_> = TABLE.rows.iter().filter(|r| r.feature == LATER).collect();
    let why = |row: &Row| match row.apply {
        Apply::Quiet(_, why) | Apply::Checked(_, why) | Apply::NotYet(why) | Apply::OnlyOff(why) => why,
        _ => "",
    };
    let is_error = |row: &Row| !matches!(row.apply, Apply::Quiet(..) | Apply::Checked(..));
    for group in rows.chunk_by(|a, b| (why(a), is_error(a)) == (why(b), is_error(b))) {
        let names: Vec<_> = group.iter().map(|r| format!("`{}`", r.name)).collect();
        let kind = if is_error(group[0]) { "" } else { " (accepted)" };
        let _ = writeln!(text, "- {}{kind}: {}", why(group[0]), names.join(", "));
    }
}
