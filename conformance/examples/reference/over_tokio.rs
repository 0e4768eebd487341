//! The shim over `adit-tokio`.

use core::time::Duration;

use adit_tokio as rt;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
};

#[path = "app.rs"]
mod app;
#[path = "side.rs"]
pub(crate) mod side;

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads").block_on(future)
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}

async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}
