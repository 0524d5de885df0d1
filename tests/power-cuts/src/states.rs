//! Enumerates the states that a power cut may leave.

use std::{
    collections::{BTreeMap, HashSet},
    ffi::{OsStr, OsString},
};

use crate::{
    image::{Content, Image, Ino, Tree},
    log::{Change, Log, Op, SECTOR},
};

/// The maximum number of sectors, and of changes of one file, whose subsets are all tried.
const SUBSETS: usize = 4;

/// What a file system promises about the order of changes that were not synced. See the documentation of the crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Model {
    /// Nothing is ordered.
    Posix,
    /// A rename is atomic.
    AtomicRename,
    /// Names and lengths reach the disk in order, after the data.
    Ordered,
}

impl Model {
    /// All models.
    pub const ALL: [Self; 3] = [Self::Posix, Self::AtomicRename, Self::Ordered];
}

/// Bounds of the enumeration.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The maximum number of combinations of which all are tried.
    pub all: usize,
    /// If there are more: whether all combinations that differ in two changes from a prefix are tried.
    pub pairs: bool,
    /// If there are more: the number of random combinations.
    pub random: usize,
    /// The seed of these.
    pub seed: u64,
}

/// The states that a cut may leave.
#[derive(Debug)]
pub struct States {
    /// Different states.
    pub trees: HashSet<Tree>,
    /// Whether these are all combinations of the changes and sectors that were not synced.
    pub complete: bool,
}

impl Log {
    /// Returns the states that a power cut may leave after the first `cut` calls.
    #[must_use]
    pub fn states(&self, model: Model, cut: usize, bounds: &Bounds) -> States {
        let mut states = States { trees: HashSet::new(), complete: true };
        match model {
            Model::Ordered => self.ordered(cut, &mut states, bounds),
            Model::Posix | Model::AtomicRename => self.unordered(model, cut, &mut states, bounds),
        }
        states
    }

    /// Combines the changes that were not synced, which may be on the disk in any combination.
    fn unordered(&self, model: Model, cut: usize, states: &mut States, bounds: &Bounds) {
        let mut durable = self.initial.clone();
        let mut names: Vec<Names> = Vec::new();
        let mut changes: Vec<(usize, Ino, &Change)> = Vec::new();
        for (place, op) in self.ops[..cut].iter().enumerate() {
            match op {
                Op::Change { ino, change } => changes.push((place, *ino, change)),
                Op::Sync { ino } => flush(&mut durable, &mut changes, *ino, usize::MAX),
                Op::SyncNames { directory } => names.retain(|pending| {
                    let synced = pending.names.iter().any(|(at, ..)| at == directory);
                    if synced {
                        if let Some(ino) = pending.flushes {
                            flush(&mut durable, &mut changes, ino, pending.place);
                        }
                        pending.apply(&mut durable);
                    }
                    !synced
                }),
                _ => {
                    let parts = op.names().into_iter().map(|(at, name, value)| (at, name.clone(), value));
                    let parts: Vec<_> = parts.collect();
                    let flushes = match op {
                        Op::Rename { ino, replaces: true, .. } => Some(*ino),
                        _ => None,
                    };
                    if model == Model::AtomicRename && !parts.is_empty() {
                        names.push(Names { place, names: parts, flushes });
                    } else {
                        let single = |part| Names { place, names: vec![part], flushes: None };
                        names.extend(parts.into_iter().map(single));
                    }
                }
            }
        }
        let mut units = match model {
            Model::AtomicRename => names.iter().map(|names| operation(names, &changes)).collect(),
            _ => slots(&names, &durable),
        };
        let mut of_files: BTreeMap<Ino, Vec<(usize, &Change)>> = BTreeMap::new();
        for (place, ino, change) in changes {
            of_files.entry(ino).or_default().push((place, change));
        }
        // After the names, whose renames restrict them.
        for (ino, changes) in &of_files {
            let (unit, complete) = content_of(*ino, &durable.content(*ino), changes);
            units.push(unit);
            states.complete &= complete;
        }
        units.retain(|unit| unit.choices.len() > 1);
        Pending { durable, units, cut }.enumerate(states, bounds);
    }

    fn ordered(&self, cut: usize, states: &mut States, bounds: &Bounds) {
        // The calls up to this one are on the disk.
        let mut durable = 0;
        // The last call that changed a file or directory.
        let mut last: BTreeMap<Ino, usize> = BTreeMap::new();
        let mut live = self.initial.clone();
        let mut in_place: Vec<InPlace> = Vec::new();
        for (place, op) in self.ops[..cut].iter().enumerate() {
            for (directory, _, _) in op.names() {
                last.insert(directory, place + 1);
            }
            match op {
                Op::Create { ino, .. } => drop(last.insert(*ino, place + 1)),
                Op::Change { ino, change } if change.is_in_place(live.content(*ino).len()) => {
                    let part = |change| InPlace { place, ino: *ino, change, synced: false };
                    in_place.extend(change.by_sector().into_iter().map(part));
                }
                Op::Change { ino, .. } => drop(last.insert(*ino, place + 1)),
                Op::Sync { ino } => {
                    durable = durable.max(last.get(ino).copied().unwrap_or(0));
                    in_place.iter_mut().for_each(|part| part.synced |= part.ino == *ino);
                }
                Op::SyncNames { directory } => {
                    durable = durable.max(last.get(directory).copied().unwrap_or(0));
                }
                _ => {}
            }
            op.apply(&mut live);
        }
        let free: Vec<usize> = (0..in_place.len()).filter(|part| !in_place[*part].synced).collect();
        let mut subsets: Vec<Vec<usize>> = Vec::new();
        let count = u32::try_from(free.len()).ok().and_then(|bits| 1_usize.checked_shl(bits));
        if let Some(count) = count.filter(|count| *count <= bounds.all) {
            subsets.extend((0..count).map(|bits| pick(&free, bits)));
        } else {
            states.complete = false;
            subsets.extend((0..=free.len()).map(|length| free[..length].to_vec()));
            subsets.extend(free.iter().map(|part| vec![*part]));
        }
        for end in durable..=cut {
            for chosen in &subsets {
                let mut image = self.initial.clone();
                for (place, op) in self.ops[..cut].iter().enumerate() {
                    let parts: Vec<_> =
                        (0..in_place.len()).filter(|part| in_place[*part].place == place).collect();
                    if parts.is_empty() && place < end {
                        op.apply(&mut image);
                    }
                    for part in
                        parts.into_iter().filter(|part| in_place[*part].synced || chosen.contains(part))
                    {
                        let InPlace { ino, change, .. } = &in_place[part];
                        let content = change.apply(&image.content(*ino));
                        image.contents.insert(*ino, content.into());
                    }
                }
                // The next write may be there in part.
                if let Some(Op::Change { ino, change }) = self.ops[..cut].get(end)
                    && in_place.iter().all(|part| part.place != end)
                {
                    for content in torn(&image.content(*ino), change, false) {
                        let mut image = image.clone();
                        image.contents.insert(*ino, content);
                        states.trees.insert(image.tree());
                    }
                }
                states.trees.insert(image.tree());
            }
        }
    }
}

/// The part of a write that overwrites one sector.
struct InPlace {
    place: usize,
    ino: Ino,
    change: Change,
    synced: bool,
}

/// Applies and removes the changes of `ino` before the call `end`.
fn flush(durable: &mut Image, changes: &mut Vec<(usize, Ino, &Change)>, ino: Ino, end: usize) {
    changes.retain(|(place, of, change)| {
        let synced = *of == ino && *place < end;
        if synced {
            let content = change.apply(&durable.content(ino));
            durable.contents.insert(ino, content.into());
        }
        !synced
    });
}

/// Returns the elements of `list` at the places of the bits that are set.
fn pick<T: Clone>(list: &[T], bits: usize) -> Vec<T> {
    list.iter()
        .enumerate()
        .filter(|(place, _)| bits >> place & 1 == 1)
        .map(|(_, item)| item.clone())
        .collect()
}

/// Names that reach the disk together.
struct Names {
    /// The call that changed them.
    place: usize,
    names: Vec<(Ino, OsString, Option<Ino>)>,
    /// The file whose content reaches the disk before.
    flushes: Option<Ino>,
}

impl Names {
    fn apply(&self, image: &mut Image) {
        for (directory, name, value) in &self.names {
            image.set_name(*directory, name, *value);
        }
    }
}

/// A part of the disk that may have one of several states.
struct Unit<'a> {
    /// The first is the durable state.
    choices: Vec<Choice<'a>>,
    /// The choices if calls reach the disk in order: the number of calls, and the choice from there on.
    timeline: Vec<(usize, usize)>,
}

enum Choice<'a> {
    Unchanged,
    /// Names. If this is a rename that flushes a file, the content of the file includes its first changes.
    Names(&'a Names, Option<(Ino, usize)>),
    /// A content of a file that includes its first changes.
    Content(Ino, Content, usize),
}

/// Returns one unit per name: any of its values since the last sync may be on the disk.
fn slots<'a>(names: &'a [Names], durable: &Image) -> Vec<Unit<'a>> {
    type Values = Vec<Option<Ino>>;
    let mut slots: BTreeMap<(Ino, &OsStr), (Values, Unit<'_>)> = BTreeMap::new();
    for pending in names {
        let (directory, name, value) = &pending.names[0];
        let (values, unit) = slots.entry((*directory, name)).or_insert_with(|| {
            (
                vec![durable.name(*directory, name)],
                Unit { choices: vec![Choice::Unchanged], timeline: vec![(0, 0)] },
            )
        });
        let choice = values.iter().position(|known| known == value).unwrap_or_else(|| {
            values.push(*value);
            unit.choices.push(Choice::Names(pending, None));
            values.len() - 1
        });
        unit.timeline.push((pending.place + 1, choice));
    }
    slots.into_values().map(|(_, unit)| unit).collect()
}

/// Returns the unit of an operation on names, which is on the disk as a whole or not.
fn operation<'a>(names: &'a Names, changes: &[(usize, Ino, &Change)]) -> Unit<'a> {
    let flushed = names.flushes.map(|ino| {
        let earlier = changes.iter().filter(|(place, of, _)| *of == ino && *place < names.place);
        (ino, earlier.count())
    });
    Unit {
        choices: vec![Choice::Unchanged, Choice::Names(names, flushed)],
        timeline: vec![(0, 0), (names.place + 1, 1)],
    }
}

/// Returns the unit of the content of a file: with any of the changes, and with torn ones. Also returns whether these
/// are all combinations of sectors.
fn content_of<'a>(ino: Ino, base: &Content, changes: &[(usize, &Change)]) -> (Unit<'a>, bool) {
    // The contents, and the number of the first changes that each includes.
    let mut contents: Vec<(Vec<u8>, usize)> = vec![(base.to_vec(), 0)];
    let mut add = |content: Vec<u8>, through: usize| {
        if let Some(choice) = contents.iter().position(|(known, _)| *known == content) {
            contents[choice].1 = contents[choice].1.max(through);
            return choice;
        }
        contents.push((content, through));
        contents.len() - 1
    };
    let mut timeline = vec![(0, 0)];
    let mut content = base.to_vec();
    let mut complete = changes.len() <= SUBSETS;
    for (through, (place, change)) in changes.iter().enumerate() {
        let whole = change.apply(&content);
        for torn in torn(&content, change, true) {
            // Torn changes are combined only with all earlier ones.
            complete &= changes.len() == 1 || *torn == content || *torn == whole;
            add(torn.to_vec(), through);
        }
        complete &= change.by_sector().len() <= SUBSETS;
        content = whole;
        timeline.push((place + 1, add(content.clone(), through + 1)));
    }
    let subsets: Vec<Vec<(usize, &Change)>> = if changes.len() <= SUBSETS {
        (0..1 << changes.len()).map(|bits| pick(changes, bits)).collect()
    } else {
        let without = |place: usize| [&changes[..place], &changes[place + 1..]].concat();
        (0..changes.len()).map(without).collect()
    };
    for subset in subsets {
        // The first changes, without a gap.
        let through = subset.iter().zip(changes).take_while(|((place, _), (next, _))| place == next).count();
        add(subset.iter().fold(base.to_vec(), |content, (_, change)| change.apply(&content)), through);
    }
    let choice = |(content, through): (Vec<u8>, usize)| Choice::Content(ino, content.into(), through);
    (Unit { choices: contents.into_iter().map(choice).collect(), timeline }, complete)
}

/// Returns the contents after a part of a write is on the disk. With `zeros`, the length may be there before the data.
fn torn(content: &[u8], change: &Change, zeros: bool) -> Vec<Content> {
    let Change::Write { at, bytes } = change else {
        return Vec::new();
    };
    let end = at + bytes.len();
    let whole = change.apply(content);
    let mut all = Vec::new();
    // Parts of the new end of the file.
    if end > content.len() {
        let start = (*at).max(content.len());
        let mut cuts = vec![start + 1, start.midpoint(end), end - 1];
        let boundaries: Vec<_> =
            (start / SECTOR + 1..=(end - 1) / SECTOR).map(|sector| sector * SECTOR).collect();
        cuts.extend(boundaries.iter().take(SUBSETS).chain(boundaries.last()));
        cuts.retain(|cut| (start + 1..end).contains(cut));
        all.extend(cuts.into_iter().map(|cut| whole[..cut].to_vec()));
    }
    // Some of the sectors.
    let sectors: Vec<_> = (at / SECTOR..=(end.max(1) - 1) / SECTOR).collect();
    let subsets: Vec<Vec<usize>> = if sectors.len() <= SUBSETS {
        (0..1 << sectors.len()).map(|bits| pick(&sectors, bits)).collect()
    } else {
        let middle = sectors.len() / 2;
        vec![
            vec![],
            sectors[..1].to_vec(),
            sectors[1..].to_vec(),
            sectors[..middle].to_vec(),
            sectors[middle..].to_vec(),
        ]
    };
    let extends = end > content.len();
    for written in subsets {
        if extends && !zeros {
            continue;
        }
        let mut torn = content.to_vec();
        torn.resize(whole.len(), 0);
        for sector in written {
            let (from, to) = ((sector * SECTOR).max(*at), ((sector + 1) * SECTOR).min(end));
            torn[from..to].copy_from_slice(&whole[from..to]);
        }
        all.push(torn);
    }
    all.into_iter().map(Content::from).collect()
}

/// The durable state, and what may be on the disk besides.
struct Pending<'a> {
    durable: Image,
    units: Vec<Unit<'a>>,
    cut: usize,
}

impl Pending<'_> {
    fn enumerate(&self, states: &mut States, bounds: &Bounds) {
        let counts: Vec<usize> = self.units.iter().map(|unit| unit.choices.len()).collect();
        let product = counts.iter().try_fold(1_usize, |product, count| product.checked_mul(*count));
        let mut add = |chosen: &[usize]| {
            if let Some(image) = self.image(chosen) {
                states.trees.insert(image.tree());
            }
        };
        let mut chosen = vec![0; counts.len()];
        if product.is_some_and(|product| product <= bounds.all) {
            loop {
                add(&chosen);
                let Some(place) = (0..counts.len()).find(|place| chosen[*place] + 1 < counts[*place]) else {
                    break;
                };
                chosen[place] += 1;
                chosen[..place].fill(0);
            }
            return;
        }
        // Every prefix.
        for calls in 0..=self.cut {
            add(&self.after(calls));
        }
        // All changes but one or two, and only one or two.
        for base in [self.after(0), self.after(self.cut)] {
            for first in 0..counts.len() {
                for first_choice in 0..counts[first] {
                    let mut chosen = base.clone();
                    chosen[first] = first_choice;
                    add(&chosen);
                    for second in (first + 1..counts.len()).filter(|_| bounds.pairs) {
                        // Of the many contents of a file, only the last: pairs of torn files are left to chance.
                        let last = self.after(self.cut)[second];
                        for second_choice in [0, last] {
                            let mut chosen = chosen.clone();
                            chosen[second] = second_choice;
                            add(&chosen);
                        }
                    }
                }
            }
        }
        let mut random = fastrand::Rng::with_seed(bounds.seed);
        for _ in 0..bounds.random {
            let chosen: Vec<_> = counts.iter().map(|count| random.usize(..count)).collect();
            add(&chosen);
        }
        states.complete = false;
    }

    /// Returns the choices if the first `calls` calls reach the disk.
    fn after(&self, calls: usize) -> Vec<usize> {
        let current = |unit: &Unit<'_>| {
            let past = unit.timeline.iter().rfind(|(since, _)| *since <= calls);
            past.map_or(0, |(_, choice)| *choice)
        };
        self.units.iter().map(current).collect()
    }

    /// Returns the state of these choices; `None` if they exclude each other.
    fn image(&self, chosen: &[usize]) -> Option<Image> {
        let mut image = self.durable.clone();
        let mut flushed = Vec::new();
        for (unit, choice) in self.units.iter().zip(chosen) {
            match &unit.choices[*choice] {
                Choice::Unchanged => {}
                Choice::Names(names, flushes) => {
                    names.apply(&mut image);
                    flushed.extend(*flushes);
                }
                Choice::Content(ino, content, through) => {
                    if flushed.iter().any(|(of, needed)| of == ino && through < needed) {
                        return None;
                    }
                    image.contents.insert(*ino, content.clone());
                }
            }
        }
        Some(image)
    }
}
