//! Says which core hangs in which task while it hangs: the core itself can tell only afterwards. Runs on the control
//! thread.

use crate::counters::ShardView;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks; a turn that is seen to be older than this is told, once.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks for ever.
pub(crate) async fn watch(views: Vec<Arc<ShardView>>) {
    let mut told = vec![false; views.len()];
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        for (core, (view, told)) in views.iter().zip(&mut told).enumerate() {
            let hangs = view.watch.running().filter(|(_, since)| *since >= LOOK_EVERY);
            if let Some((task, since)) = hangs
                && !*told
            {
                let (core, task) = (format!("shard-{core}"), view.watch.name(task));
                tracing::error!(core, task, ?since, "a core hangs in one task: nothing else of this core is served");
            }
            *told = hangs.is_some();
        }
    }
}
