//! The shim over `adit-smol`.

use core::time::Duration;

use adit_smol as rt;
use smol::net::{TcpListener, TcpStream};

#[expect(clippy::duplicate_mod, reason = "the same code, over another runtime")]
#[path = "app.rs"]
mod app;
#[expect(clippy::duplicate_mod, reason = "the same code, over another runtime")]
#[path = "side.rs"]
pub(crate) mod side;

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    smol::block_on(future)
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    smol::spawn(task).detach();
}

async fn sleep(time: Duration) {
    smol::Timer::after(time).await;
}
