//! The part of `db status` that the site's processes tell: their pools, and where they sent what.

use serde_json::{Map, Value};

use crate::cli::{print::table, say};

/// One line for each server of each process.
pub(super) fn show(processes: &[Value]) {
    if processes.is_empty() {
        say("no process of the site runs with this data folder");
        return;
    }
    let head = [
        "process", "roles", "server", "in use", "idle", "max", "waiting", "reads", "writes", "why",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for process in processes {
        let servers = process["database"]["servers"].as_array();
        for (at, server) in servers.into_iter().flatten().enumerate() {
            let once = |text: String| if at == 0 { text } else { String::new() };
            let mut row = vec![once(process["pid"].to_string()), once(roles(process))];
            row.push(server["name"].as_str().unwrap_or_default().to_owned());
            let numbers = ["in_use", "idle", "size", "waiting", "reads", "writes"];
            row.extend(numbers.map(|name| server[name].to_string()));
            row.push(server["routes"].as_object().map(why).unwrap_or_default());
            rows.push(row);
        }
    }
    table(&rows);
}

fn roles(process: &Value) -> String {
    let roles = process["roles"].as_array();
    roles.into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}

/// `fresh 120, behind 3`, the most frequent first.
fn why(routes: &Map<String, Value>) -> String {
    let mut counts: Vec<_> = routes.iter().map(|(why, count)| (count.as_u64(), why)).collect();
    counts.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let told = counts.iter().map(|(count, why)| format!("{why} {}", count.unwrap_or(0)));
    told.collect::<Vec<_>>().join(", ")
}
