//! `skill`: reading up on how something is done.

use super::arguments::{Arguments, Field};
use super::{Bench, Made, Run, Tool, words};

pub(super) const TOOL: Tool = Tool {
    name: "skill",
    says: "Reads the text of one of your skills, which says how something is done.",
    fields: &[Field::needed("name", "which skill")],
    run: Run::Beside(run),
};

fn run(bench: &Bench, given: Arguments<'_>) -> Made {
    let name = given.needed("name");
    let Some(skill) = bench.skills.iter().find(|skill| skill.name == name) else {
        let names: Vec<_> = bench.skills.iter().map(|skill| skill.name.as_str()).collect();
        return Err(format!("there is no skill {name:?}; there are: {}", names.join(", ")));
    };
    let text = skill.text()?;
    let folder = skill.path.parent().unwrap_or(&skill.path);
    Ok(words(format!("[The files of this skill are in {}.]\n\n{text}", folder.display())))
}
