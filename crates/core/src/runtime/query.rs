//! What containers are looked up by, and what that finds.

use bstr::{BStr, BString};
use whose_kernel::{Class, Host, ReadError};

use crate::model::gap::what;
use crate::model::{Gap, Pod};

/// What a container is looked up by.
#[derive(Clone, Copy, Debug)]
pub enum Query<'q> {
    /// A full id, or `NAMESPACE/ID` where an engine has namespaces of its own.
    Id(&'q BStr),
    /// The beginning of an id.
    IdPrefix(&'q BStr),
    /// An exact name.
    Name(&'q BStr),
    /// An address of a running container.
    Address(&'q BStr),
    /// The exact name of a volume of the engine's own that it has.
    Volume(&'q BStr),
}

/// What a pod, or a container in one, is looked up by: all that is given has to fit.
#[derive(Clone, Copy, Debug, Default)]
pub struct PodQuery<'q> {
    /// The pod's uid.
    pub uid: Option<&'q BStr>,
    /// Its namespace.
    pub namespace: Option<&'q BStr>,
    /// Its name.
    pub name: Option<&'q BStr>,
    /// The container's name in it.
    pub container: Option<&'q BStr>,
}

impl<'q> PodQuery<'q> {
    /// Whether it asks for this pod or container.
    #[must_use]
    pub fn fits(&self, pod: &Pod) -> bool {
        let same = |asked: Option<&BStr>, known: &Option<BString>| {
            asked.is_none_or(|asked| known.as_ref().is_some_and(|known| known == asked))
        };
        same(self.uid, &pod.uid)
            && same(self.namespace, &pod.namespace)
            && same(self.name, &pod.name)
            && same(self.container, &pod.container)
    }

    /// A text that the state of whatever fits must hold: the rarest that is given.
    #[must_use]
    pub fn needle(&self) -> Option<&'q BStr> {
        self.uid.or(self.name).or(self.container).or(self.namespace)
    }
}

/// Containers that match a query, and state that could not be read while looking.
#[derive(Debug, Default)]
pub struct Matches {
    /// Full ids; `NAMESPACE/ID` where an engine has namespaces of its own.
    pub ids: Vec<BString>,
    /// Containers whose state could not be read, so that they may match or not.
    pub gaps: Vec<Gap>,
}

/// Looks through a list for what an id, or a name, asks for. Only for a name is more read of each, by `name`; that ends
/// with the host's time, which is a gap as `late` says. `id` is what each is known by.
///
/// # Errors
/// When there is no list.
pub(super) fn look_through<T, I: IntoIterator<Item = T>>(
    host: &Host,
    query: Query<'_>,
    list: impl FnOnce() -> Result<I, ReadError>,
    id: impl Fn(&T) -> &[u8],
    name: impl Fn(&T) -> Result<Option<BString>, ReadError>,
    late: impl FnOnce() -> ReadError,
) -> Result<Matches, ReadError> {
    let mut matches = Matches::default();
    if matches!(query, Query::Address(_) | Query::Volume(_)) {
        return Ok(matches);
    }
    for one in list()? {
        let is_it = match query {
            Query::Id(wanted) => id(&one) == wanted,
            Query::IdPrefix(prefix) => id(&one).starts_with(prefix),
            Query::Name(_) if host.out_of_time() => {
                matches.gaps.push(Gap::from_read(what::CONTAINERS, &late()));
                break;
            }
            Query::Name(wanted) => match name(&one) {
                Ok(name) => name.is_some_and(|own| own == wanted),
                Err(e) if e.class == Class::Gone => false,
                Err(e) => {
                    matches.gaps.push(Gap::from_read(what::DESCRIPTION, &e));
                    false
                }
            },
            Query::Address(_) | Query::Volume(_) => false,
        };
        matches.ids.extend(is_it.then(|| BString::from(id(&one))));
    }
    Ok(matches)
}
