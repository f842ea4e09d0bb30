//! `forebay fs`: one file per verb or pair of verbs.

mod cat;
mod change;
mod check;
mod checksum;
mod copy;
mod copy_from;
mod ends;
mod find;
mod free;
mod glob;
mod held;
mod list;
mod load;
mod local_tree;
mod location;
pub(crate) mod mounts;
pub(crate) mod paths;
mod pin;
mod pinned;
mod progress;
mod stat;
mod test;
mod usage;
mod walk;

use crate::arguments::FsVerb;
use crate::failure::Failure;
use ends::End;
use forebay_client::Client;

/// Runs one verb.
pub(crate) async fn run(client: Client, verb: FsVerb) -> Result<(), Failure> {
    match verb {
        FsVerb::Mount(mount) => mounts::mount(&client, mount).await,
        FsVerb::Unmount { force, path } => mounts::unmount(&client, path, force).await,
        FsVerb::Mounts { json } => mounts::list(&client, json).await,
        FsVerb::Ls(arguments) => list::list(&client, arguments).await,
        FsVerb::Stat(arguments) => stat::stat(&client, arguments).await,
        FsVerb::Cat { paths } => cat::cat(&client, &paths).await,
        FsVerb::Head(arguments) => ends::show(&client, End::Head, arguments).await,
        FsVerb::Tail(arguments) => ends::show(&client, End::Tail, arguments).await,
        FsVerb::Test(arguments) => test::test(&client, arguments).await,
        FsVerb::Du(arguments) => usage::du(&client, arguments).await,
        FsVerb::Count(arguments) => usage::count(&client, arguments).await,
        FsVerb::Checksum(arguments) => checksum::checksum(&client, arguments).await,
        FsVerb::Location(arguments) => location::location(&client, arguments).await,
        FsVerb::Find(arguments) => find::find(&client, arguments).await,
        FsVerb::CopyTo(arguments) => copy::copy_to(&client, arguments).await,
        FsVerb::CopyFrom(arguments) => copy_from::copy_from(&client, arguments).await,
        FsVerb::Refresh(arguments) => check::refresh(&client, arguments).await,
        FsVerb::Check(arguments) => check::check(&client, arguments).await,
        FsVerb::Load(load) => load::load(&client, load).await,
        FsVerb::Pin(arguments) => pin::pin(&client, arguments).await,
        FsVerb::Unpin(arguments) => pin::unpin(&client, arguments).await,
        FsVerb::Mkdir(arguments) => change::mkdir(&client, arguments).await,
        FsVerb::Rm(arguments) => change::rm(&client, arguments).await,
        FsVerb::Mv(arguments) => change::mv(&client, arguments).await,
        FsVerb::Touch(arguments) => change::touch(&client, arguments).await,
        FsVerb::Chmod(arguments) => change::chmod(&client, arguments).await,
        FsVerb::Free { recursive, force, paths } => free::free(&client, &paths, recursive, force).await,
    }
}
