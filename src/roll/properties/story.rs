//! What happens in a story, and what comes of it, in words.

use super::super::*;

pub fn name(generation: Option<Generation>) -> String {
    generation.map_or("nobody".to_owned(), |one| one.to_string())
}

pub fn begins(left: &[Inherited]) -> String {
    let again = |one: &Inherited| if one.again { " as one before was" } else { "" };
    let left: Vec<_> = left.iter().map(|one| format!("{} {:?}{}", one.generation, one.standing, again(one))).collect();
    let left = if left.is_empty() { "nothing".to_owned() } else { left.join(", ") };
    format!("procroll begins, and finds {left}")
}

pub fn says(event: &Event) -> String {
    match event {
        Event::Begin(left) => begins(left),
        Event::Reload => "Somebody reloads".to_owned(),
        Event::Stop => "Somebody stops it".to_owned(),
        Event::Taken(one) => format!("The name of {one} belongs to somebody else"),
        Event::Refused(one, _) => format!("The start of {one} is refused"),
        Event::Prepared { generation, .. } => format!("{generation} is prepared, and can't live beside another"),
        Event::Started { generation, pace } => {
            format!("{generation} is started: settle {:?}, at most {} stopping", pace.settle, pace.most_leaving)
        }
        Event::Active(one) => format!("{one} is active"),
        Event::Deactivating(one) => format!("{one} is on its way down, or started anew by somebody"),
        Event::Dead { generation, death, was_active } => {
            format!(
                "{generation} is dead, {death:?}, after it was {}",
                if *was_active { "active" } else { "not active" }
            )
        }
        Event::Gone(one) => format!("{one} is forgotten"),
    }
}

pub fn decides(action: &Action) -> String {
    match action {
        Action::Start(one) => format!("so start {one}"),
        Action::Proceed(one) => format!("so go on with the start of {one}"),
        Action::Again { generation, of } => format!("so start {generation} as {of} was"),
        Action::Stop(one) => format!("so stop {one}"),
        Action::Kill(one) => format!("so kill {one}"),
        Action::Forget(one) => format!("so forget {one}"),
        Action::Up(one) => format!("so say that it is up: {one} serves"),
        Action::Answer(Ok(one)) => format!("so answer that {one} serves"),
        Action::Answer(Err(failed)) => format!("so answer that {} failed", failed.generation),
        Action::Exit(exit) => format!("so end: {exit:?}"),
    }
}
