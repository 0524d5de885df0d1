//! MongoDB's wire protocol, without a driver.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{connect, unexpected};

const OP_MSG: u32 = 2013;
/// The BSON boolean `isWritablePrimary: true`.
const PRIMARY: &[u8] = b"\x08isWritablePrimary\0\x01";

/// Ready if its answer to `hello` says that it accepts writes.
pub(super) async fn ready(port: u16) -> io::Result<()> {
    let mut stream = connect(port).await?;
    stream.write_all(&hello()).await?;
    let length = stream.read_u32_le().await?;
    let mut answer = vec![0; (length.saturating_sub(4)).min(64 * 1024) as usize];
    stream.read_exact(&mut answer).await?;
    if answer.windows(PRIMARY.len()).any(|window| window == PRIMARY) {
        Ok(())
    } else {
        Err(unexpected("MongoDB does not accept writes yet", &answer))
    }
}

/// `{ hello: 1, $db: "admin" }`
fn hello() -> Vec<u8> {
    let mut fields = b"\x10hello\0".to_vec();
    fields.extend(1_u32.to_le_bytes());
    fields.extend(b"\x02$db\0");
    fields.extend(6_u32.to_le_bytes());
    fields.extend(b"admin\0\0");
    let document = [&length(fields.len() + 4)[..], &fields].concat();

    let mut message = length(16 + 4 + 1 + document.len()).to_vec();
    for word in [1, 0, OP_MSG, 0] {
        message.extend(u32::to_le_bytes(word));
    }
    // The only section is the body.
    message.push(0);
    message.extend(document);
    message
}

#[expect(clippy::cast_possible_truncation, reason = "the message above is much shorter")]
const fn length(bytes: usize) -> [u8; 4] {
    (bytes as u32).to_le_bytes()
}
