//! Changing a mount: what is not named stays, secrets too. The store is tried with the new options first; workers learn of
//! the new generation with their next heartbeat and open the store again.

use super::{Mounts, components, invalid, refused, store_error};
use crate::namespace::{Command, MountRecord, Outcome};
use forebay_base::{ErrorKind, KindError};
use forebay_net::message::namespace::{MountInfo, UpdateMount};
use forebay_ufs::UnderStore;
use std::sync::{Arc, PoisonError};

/// The options with the changes in them.
fn changed(options: &[(String, String)], request: &UpdateMount) -> Result<Vec<(String, String)>, KindError> {
    let mut now: Vec<(String, String)> = options.to_vec();
    for key in &request.remove_options {
        if !now.iter().any(|(known, _)| known == key) {
            let known: Vec<&str> = options.iter().map(|(key, _)| key.as_str()).collect();
            let have = if known.is_empty() { "none".into() } else { known.join(", ") };
            return Err(invalid(format!(
                "option {key}: the mount {} has no such option, it has: {have}",
                request.path
            )));
        }
        now.retain(|(known, _)| known != key);
    }
    for (key, value) in &request.set_options {
        now.retain(|(known, _)| known != key);
        now.push((key.clone(), value.clone()));
    }
    Ok(now)
}

impl Mounts {
    /// Changes a mount. Must run to its end: between journal and table it may not be dropped.
    pub(crate) async fn update(&self, request: UpdateMount) -> Result<MountInfo, KindError> {
        components(&request.path)?;
        let state = {
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
            table.values().find(|state| state.record.path == request.path).cloned()
        };
        let missing = || KindError::new(ErrorKind::NotFound, format!("{}: nothing is mounted there", request.path));
        let known = state.ok_or_else(missing)?;
        let record = MountRecord {
            options: changed(&known.record.options, &request)?,
            freshness_ms: request.freshness_ms.unwrap_or(known.record.freshness_ms),
            readonly: request.readonly.unwrap_or(known.record.readonly),
            generation: known.record.generation + 1,
            ..known.record.clone()
        };
        let store =
            if record.options == known.record.options { known.store().ok() } else { Some(self.tried(&record).await?) };
        // Only now: a store that does not answer holds up no other change.
        let _one_at_a_time = self.changing.lock().await;
        match self.journal.propose(Command::UpdateMount(record)).await? {
            Outcome::Mounted(record) => {
                tracing::info!("changed the mount {}, generation {}", record.path, record.generation);
                let state = match store {
                    Some(store) => self.put(record, Ok(store)),
                    None => self.insert(record),
                };
                Ok(state.info())
            }
            Outcome::Retry => {
                let message =
                    format!("{}: it was changed by somebody else meanwhile, look and try again", request.path);
                Err(KindError::new(ErrorKind::Busy, message))
            }
            other => Err(refused(other)),
        }
    }

    /// The store of a record, when it answers and takes the credentials.
    async fn tried(&self, record: &MountRecord) -> Result<Arc<dyn UnderStore>, KindError> {
        let store = {
            let _inside = self.store_runtime.enter();
            (self.opener)(&record.uri, &record.options, self.limits).map_err(store_error)?
        };
        let asked = Arc::clone(&store);
        let checked = self.store_runtime.spawn(async move { asked.check().await }).await;
        let closed = |_| KindError::new(ErrorKind::Closed, "the master is shutting down");
        checked.map_err(closed)?.map_err(store_error)?;
        Ok(store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays() {
        let pair = |key: &str, value: &str| (key.to_string(), value.to_string());
        let options = [pair("secret_key", "s"), pair("region", "eu"), pair("endpoint", "http://a")];
        let mut request = UpdateMount {
            path: "/d".into(),
            set_options: vec![pair("region", "us")],
            remove_options: vec!["endpoint".into()],
            freshness_ms: None,
            readonly: None,
        };
        let now = changed(&options, &request).expect("all are known");
        assert_eq!(now, [pair("secret_key", "s"), pair("region", "us")]);
        request.remove_options = vec!["nothing".into()];
        let message = changed(&options, &request).expect_err("it is not there").message;
        assert!(message.contains("nothing") && message.contains("secret_key, region, endpoint"), "{message}");
    }
}
