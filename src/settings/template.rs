//! Templates in the command's arguments: `{{.Generation}}` and its like, in the notation of the first procroll.
//!
//! Four names and an escape are all there is, so this is a scanner of its own: the crates that read Go's template
//! language are either whole languages or no longer kept.

/// A part of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    Field(Field),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Pid,
    Generation,
    NotifySocket,
    Unit,
}

/// What the names stand for.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// `{{.PID}}`: procroll's own process id.
    pub pid: u32,
    /// `{{.Generation}}`
    pub generation: crate::roll::Generation,
    /// `{{.NotifySocket}}`: where the generation's notifications go.
    pub notify_socket: &'a str,
    /// `{{.Unit}}`: the unit the generation runs in.
    pub unit: &'a str,
}

/// An argument has braces that are no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTemplate {
    /// `{{` without `}}`.
    #[error("{{{{ is not closed in {0:?}")]
    Unclosed(String),
    /// Something else than the four names.
    #[error(
        "{{{{{0}}}}} is none of {{{{.PID}}}}, {{{{.Generation}}}}, {{{{.NotifySocket}}}}, {{{{.Unit}}}}. \
         For two braces as they are write {{{{`{{{{`}}}}"
    )]
    Unknown(String),
}

/// Refuses an argument that [`fill`] can't fill in.
///
/// # Errors
/// [`BadTemplate`], with what is wrong with it.
pub fn check(argument: &str) -> Result<(), BadTemplate> {
    parts(argument).map(drop)
}

/// Whether `argument` has anything to fill in.
pub fn fill_would_change(argument: &str) -> bool {
    argument.contains("{{")
}

/// Whether `argument` has `{{.Unit}}` in it.
pub fn names_unit(argument: &str) -> bool {
    parts(argument).is_ok_and(|parts| parts.contains(&Part::Field(Field::Unit)))
}

/// The argument with all names filled in.
///
/// # Errors
/// As [`check`].
pub fn fill(argument: &str, values: &Values<'_>) -> Result<String, BadTemplate> {
    let parts = parts(argument)?;
    Ok(parts.iter().fold(String::new(), |filled, part| match part {
        Part::Text(text) => filled + text,
        Part::Field(Field::Pid) => filled + &values.pid.to_string(),
        Part::Field(Field::Generation) => filled + &values.generation.to_string(),
        Part::Field(Field::NotifySocket) => filled + values.notify_socket,
        Part::Field(Field::Unit) => filled + values.unit,
    }))
}

fn parts(argument: &str) -> Result<Vec<Part<'_>>, BadTemplate> {
    let mut parts = Vec::new();
    let mut rest = argument;
    while let Some((text, after)) = rest.split_once("{{") {
        parts.push(Part::Text(text));
        let (inner, after) = after.split_once("}}").ok_or_else(|| BadTemplate::Unclosed(argument.to_owned()))?;
        parts.push(match inner.trim() {
            ".PID" => Part::Field(Field::Pid),
            ".Generation" => Part::Field(Field::Generation),
            ".NotifySocket" => Part::Field(Field::NotifySocket),
            ".Unit" => Part::Field(Field::Unit),
            // Go's two ways to write a string; the second needs no escaping in a unit file.
            "\"{{\"" | "`{{`" => Part::Text("{{"),
            _ => return Err(BadTemplate::Unknown(inner.to_owned())),
        });
        rest = after;
    }
    parts.push(Part::Text(rest));
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::text_of;

    proptest! {
        #[test]
        fn any_text_is_filled_in_or_refused_beforehand(
            text in text_of(&["{", "{{", "}}", "}", "`", "\"", ".PID", ".Unit", ".Generation", " ", "x"]),
        ) {
            prop_assert_eq!(check(&text).is_ok(), filled(&text).is_ok());
            if !fill_would_change(&text) {
                prop_assert_eq!(filled(&text), Ok(text.clone()));
            }
            // Whatever it is, it can be said.
            prop_assert_eq!(filled(&text.replace("{{", "{{`{{`}}")), Ok(text));
        }
    }

    fn filled(argument: &str) -> Result<String, BadTemplate> {
        let values = Values {
            pid: 42,
            generation: crate::roll::Generation::new(3),
            notify_socket: "/run/systemd/notify",
            unit: "web@3.service",
        };
        fill(argument, &values)
    }

    #[test]
    fn fills_in_the_four_names() {
        let all = "{{.PID}}-{{ .Generation }}-{{.NotifySocket}}-{{.Unit}}!";
        assert_eq!(filled(all), Ok("42-3-/run/systemd/notify-web@3.service!".to_owned()));
    }

    #[test]
    fn leaves_single_braces_and_escaped_ones() {
        assert_eq!(filled("{a} }} {{\"{{\"}}.PID}}"), Ok("{a} }} {{.PID}}".to_owned()));
        assert_eq!(filled("{{`{{`}}x{{ `{{` }}"), Ok("{{x{{".to_owned()));
    }

    #[test]
    fn refuses_anything_else_in_braces() {
        assert_eq!(filled("{{.Pid}}"), Err(BadTemplate::Unknown(".Pid".to_owned())));
        assert_eq!(filled("{{}}"), Err(BadTemplate::Unknown(String::new())));
        assert_eq!(filled("a{{.PID"), Err(BadTemplate::Unclosed("a{{.PID".to_owned())));
        assert_eq!(
            BadTemplate::Unknown(".X".to_owned()).to_string(),
            "{{.X}} is none of {{.PID}}, {{.Generation}}, {{.NotifySocket}}, {{.Unit}}. For two braces as they are write {{`{{`}}"
        );
    }
}
