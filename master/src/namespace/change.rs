//! What programs change, applied: a new file, another name, other attributes. The store has been changed before, or does not
//! have the file yet. Pure, deterministic; the same rules as in `apply.rs`.

use super::apply::{Refusal, Touched};
use super::command::{Move, NewAttributes, NewFile, NewKey, Removal};
use super::{Dentry, Inode, Outcome};
use forebay_base::{ErrorKind, FileId};
use forebay_net::message::namespace::{KIND_DIRECTORY, KIND_FILE};

pub(super) fn create_file(touched: &mut Touched<'_>, new: &NewFile) -> Result<Outcome, Refusal> {
    let directory = FileId(new.directory);
    let parent = touched.directory(directory)?;
    let Some(store_key) = parent.child_key(&new.name) else {
        return Err(Refusal::Refused(ErrorKind::Invalid, "only names in UTF-8 can be written".into()));
    };
    let mount_id = parent.mount_id;
    touched.expect(directory, &new.name, 0)?;
    let home = touched.change_home(directory);
    let (id, version) = (home.draw_file(), home.draw_version().0);
    let inode = Inode {
        parent: new.directory,
        mount_id,
        kind: KIND_FILE,
        listed: false,
        detached: false,
        unsaved: true,
        own_mtime: false,
        version,
        size: 0,
        mtime_ms: new.now_ms,
        mode: new.mode,
        uid: new.uid,
        gid: new.gid,
        store_key,
        fingerprint: String::new(),
    };
    home.put_inode(id, inode);
    home.put_entry(directory, &new.name, Dentry { file_id: id, kind: KIND_FILE });
    Ok(Outcome::Done { events: vec![(id.0, version)] })
}

pub(super) fn drop_unsaved(touched: &mut Touched<'_>, removal: &Removal) -> Result<Outcome, Refusal> {
    let (directory, id) = (FileId(removal.parent), FileId(removal.expected));
    touched.expect(directory, &removal.name, removal.expected)?;
    if !touched.home(id)?.inode(id).is_some_and(|inode| inode.unsaved) {
        return Err(Refusal::Retry);
    }
    let mut events = Vec::new();
    touched.remove(directory, &removal.name, &mut events);
    Ok(Outcome::Done { events })
}

pub(super) fn move_name(touched: &mut Touched<'_>, moved: &Move) -> Result<Outcome, Refusal> {
    let (from, to, id) = (FileId(moved.from.parent), FileId(moved.directory), FileId(moved.from.expected));
    touched.expect(from, &moved.from.name, moved.from.expected)?;
    touched.expect(to, &moved.name, moved.replaced)?;
    touched.home(id)?;
    let kind = touched.home(from)?.entry(from, &moved.from.name).map_or(KIND_FILE, |entry| entry.kind);
    let parent = touched.directory(to)?;
    let Some(store_key) = parent.child_key(&moved.name) else {
        return Err(Refusal::Refused(ErrorKind::Invalid, "only names in UTF-8 can be written".into()));
    };
    let is_itself = moved.replaced == moved.from.expected;
    if parent.mount_id != touched.home(id)?.inode(id).map_or(0, |inode| inode.mount_id) || to == id || is_itself {
        return Err(Refusal::Retry);
    }
    let mut base = None;
    if moved.replaced != 0 {
        let replaced = FileId(moved.replaced);
        // What is not in the store yet will replace what is there.
        let home = touched.home(replaced)?;
        base = home.inode(replaced).map(|inode| inode.fingerprint.clone());
        let replaced_kind = touched.home(to)?.entry(to, &moved.name).map_or(kind, |entry| entry.kind);
        if replaced_kind != kind || home.has_unsaved_in(replaced) {
            return Err(Refusal::Retry);
        }
    }
    let mut events = Vec::new();
    touched.remove(to, &moved.name, &mut events);
    touched.change_home(from).remove_entry(from, &moved.from.name);
    let home = touched.change_home(id);
    let is_unsaved = home.inode(id).is_some_and(|inode| inode.unsaved);
    let is_new = kind == KIND_FILE && !is_unsaved && !moved.same_content;
    let version = if is_new { home.draw_version().0 } else { 0 };
    if kind == KIND_DIRECTORY
        && let Some(old) = home.inode(id).map(|inode| inode.store_key.clone())
    {
        home.moving.insert(id, (old, store_key.clone()));
        home.mark_head();
    }
    if let Some(inode) = home.inode_mut(id) {
        (inode.parent, inode.store_key) = (moved.directory, store_key);
        if is_unsaved {
            inode.fingerprint = base.unwrap_or_default();
        } else if kind == KIND_FILE {
            inode.fingerprint.clone_from(&moved.fingerprint);
            inode.own_mtime = true;
        }
        if version != 0 {
            inode.version = version;
        }
        events.push((id.0, inode.version));
    }
    touched.change_home(to).put_entry(to, &moved.name, Dentry { file_id: id, kind });
    Ok(Outcome::Done { events })
}

pub(super) fn set_keys(touched: &mut Touched<'_>, keys: &[NewKey]) -> Result<Outcome, Refusal> {
    for key in keys {
        touched.home(FileId(key.file_id))?;
    }
    for key in keys {
        let id = FileId(key.file_id);
        let home = touched.change_home(id);
        if home.inode(id).is_some_and(|inode| inode.store_key == key.old)
            && let Some(inode) = home.inode_mut(id)
        {
            inode.store_key.clone_from(&key.new);
        }
    }
    Ok(Outcome::Done { events: Vec::new() })
}

pub(super) fn keys_set(touched: &mut Touched<'_>, directory: FileId) -> Result<Outcome, Refusal> {
    touched.home(directory)?;
    let home = touched.change_home(directory);
    if home.moving.remove(&directory).is_some() {
        home.mark_head();
    }
    Ok(Outcome::Done { events: Vec::new() })
}

pub(super) fn set_attributes(touched: &mut Touched<'_>, new: &NewAttributes) -> Result<Outcome, Refusal> {
    let id = FileId(new.file_id);
    if touched.home(id)?.inode(id).is_none_or(|inode| inode.detached) {
        return Err(Refusal::Refused(ErrorKind::NotFound, format!("file {id} does not exist any more")));
    }
    let Some(inode) = touched.change_home(id).inode_mut(id) else { return Err(Refusal::Retry) };
    inode.mode = new.mode.unwrap_or(inode.mode);
    inode.uid = new.uid.unwrap_or(inode.uid);
    inode.gid = new.gid.unwrap_or(inode.gid);
    if let Some(mtime_ms) = new.mtime_ms {
        (inode.mtime_ms, inode.own_mtime) = (mtime_ms, true);
    }
    // A directory's version is 0, which says that it is gone.
    let events = if inode.kind == KIND_DIRECTORY { Vec::new() } else { vec![(new.file_id, inode.version)] };
    Ok(Outcome::Done { events })
}
