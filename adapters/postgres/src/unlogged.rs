//! Parameters that the driver cannot log.

use std::{error::Error, fmt};

use bytes::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

/// A parameter on its way to the driver, which logs the parameters of each statement by their `Debug`: keys
/// are among them, and a key may be all that it takes to use somebody's session.
pub(crate) struct Unlogged<'a>(pub(crate) &'a (dyn ToSql + Sync));

impl fmt::Debug for Unlogged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

impl ToSql for Unlogged<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.0.to_sql_checked(ty, out)
    }

    /// What it holds checks that itself.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_it_holds_and_says_nothing_of_it() {
        let (mut bare, mut unlogged) = (BytesMut::new(), BytesMut::new());
        "hunter2".to_sql(&Type::TEXT, &mut bare).unwrap();
        Unlogged(&"hunter2").to_sql_checked(&Type::TEXT, &mut unlogged).unwrap();
        assert_eq!(bare, unlogged);
        assert!(Unlogged(&"hunter2").to_sql_checked(&Type::INT8, &mut unlogged).is_err());
        assert_eq!(format!("{:?}", [Unlogged(&"hunter2")]), "[..]");
    }
}
