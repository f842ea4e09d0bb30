//! One connected client for one command, on a runtime of two threads.

use crate::failure::Failure;
use crate::settings_source::SettingsSource;
use forebay_base::settings::Settings;
use forebay_client::message::handshake::Role;
use forebay_client::{Client, ClientConfig};

/// Connects and runs `work`.
pub(crate) fn run<F, W>(source: &SettingsSource, work: W) -> Result<(), Failure>
where
    W: FnOnce(Client) -> F,
    F: Future<Output = Result<(), Failure>>,
{
    let settings = source.load()?.settings;
    runtime()?.block_on(async move {
        let client = connect(&settings).await?;
        let outcome = work(client.clone()).await;
        client.close().await;
        outcome
    })
}

/// The runtime of every command.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("runtime: {error}")))
}

/// Connects as an operator's tool.
pub(crate) async fn connect(settings: &Settings) -> Result<Client, Failure> {
    let masters = settings.cluster.masters.join(",");
    let config = ClientConfig::new(settings, Role::Admin).map_err(|error| Failure::connecting(&masters, &error))?;
    Client::connect(config).await.map_err(|error| Failure::connecting(&masters, &error))
}
