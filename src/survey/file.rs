//! A unit file that systemd needn't know, with the drop-ins beside it, as `systemd-analyze verify` takes it.

use std::fs;
use std::io;
use std::path::Path;

use super::Seen;
use crate::check::{Facts, Held, Unfit};
use crate::systemd::wrapper;
use crate::unit::{Source, Sources};

/// Looks at the file at this path.
pub(super) fn look(path: &str) -> Seen {
    let name = crate::check::command::file_name(path).to_owned();
    let folder = format!("{path}.d");
    let unfit = |why| Seen { name: name.clone(), folder: folder.clone(), facts: Err(why), runs: false, written: false };
    if !name.ends_with(".service") {
        return unfit(Unfit::NotAService);
    }
    let sources = match sources(path, &folder) {
        Ok(sources) => sources,
        Err(error) => return unfit(Unfit::Unreadable(format!("{error:#}"))),
    };
    let beside = |name: String| Path::new(path).with_file_name(name).exists();
    let base = name.trim_end_matches(".service");
    let socket = format!("{base}.socket");
    let facts = Facts {
        name: name.clone(),
        sources,
        arguments: None,
        sockets: Some(socket).filter(|socket| beside(socket.clone())).into_iter().collect(),
        missed_socket: None,
        template: !base.contains('@') && beside(format!("{base}@.service")),
        written: Vec::new(),
        restart_due: false,
        held: Held::NotSeen("it is but a file".to_owned()),
    };
    Seen { name, folder, facts: Ok(facts), runs: false, written: false }
}

fn sources(path: &str, folder: &str) -> anyhow::Result<Sources> {
    let mut paths = vec![path.to_owned()];
    match fs::read_dir(folder) {
        Ok(entries) => {
            let drop_ins = entries.filter_map(|entry| entry.ok()?.path().into_os_string().into_string().ok());
            let mut drop_ins: Vec<_> = drop_ins.filter(|path| path.ends_with(".conf")).collect();
            drop_ins.sort();
            paths.extend(drop_ins);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let read = |path: &String| {
        let bytes = wrapper::read_file(Path::new(path)).map_err(|error| anyhow::anyhow!("{path}: {error}"))?;
        Ok(Source::parse(path, &bytes)?)
    };
    paths.iter().map(read).collect::<anyhow::Result<Vec<_>>>().map(Sources)
}
