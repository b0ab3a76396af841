//! An OpenAI that sends given bytes, for the answers and the failures that the simulator does not have.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use socket2::{SockFilter, SockRef, Socket};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::function::{API_KEY, Function};

/// An instruction of the kernel's packet filter: keep no byte of the packet (`BPF_RET | BPF_K` in linux/filter.h).
const DROP: SockFilter = SockFilter::new(0x06, 0, 0, 0);

/// An OpenAI that accepts no connection: its queue is full, so the kernel drops every further SYN.
pub struct FullListener {
    listener: std::net::TcpListener,
    _waiting: Vec<std::net::TcpStream>,
}

impl FullListener {
    pub fn new() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (mut waiting, mut failures) = (Vec::new(), 0);
        // A single failure can be a busy machine's.
        while failures < 3 {
            match std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
                Ok(connection) => {
                    waiting.push(connection);
                    failures = 0;
                }
                Err(_) => failures += 1,
            }
        }
        Self { listener, _waiting: waiting }
    }

    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.listener.local_addr().unwrap())
    }
}

pub struct RawOpenAi {
    pub base_url: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    requests: AtomicUsize,
    connections: AtomicUsize,
    answer: Mutex<Answer>,
    open: Mutex<Vec<Socket>>,
}

/// The answer to every request.
#[derive(Clone, Default)]
pub struct Answer {
    pub after: Duration,
    /// Nothing is sent if it is empty.
    pub bytes: Vec<u8>,
    /// Whether the connection is closed after the answer.
    pub closes: bool,
}

impl Answer {
    /// An answer with this status, these headers (each with its line's end), and this body.
    pub fn new(status: u16, headers: &str, body: &str) -> Self {
        let bytes = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
        Self { bytes: bytes.into(), ..Self::default() }
    }

    /// A token, after that time.
    pub fn token_after(milliseconds: u64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let body = format!(r#"{{"value": "ek_1", "expires_at": {}, "session": {{"id": "sess_1"}}}}"#, now + 3600);
        Self { after: Duration::from_millis(milliseconds), ..Self::new(200, "", &body) }
    }

    pub fn never() -> Self {
        Self::default()
    }
}

impl RawOpenAi {
    pub async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let state = Arc::new(State::default());
        *state.answer.lock().unwrap() = answer;
        tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    state.connections.fetch_add(1, Ordering::Relaxed);
                    state.open.lock().unwrap().push(SockRef::from(&stream).try_clone().unwrap());
                    tokio::spawn(serve(stream, Arc::clone(&state)));
                }
            }
        });
        Self { base_url, state }
    }

    pub async fn function(&self) -> Function {
        let environment =
            [("OPENAI_BASE_URL", self.base_url.as_str()), ("OPENAI_API_KEY", API_KEY), ("LOG_LEVEL", "DEBUG")];
        Function::start(&environment).await
    }

    pub fn answer(&self, answer: Answer) {
        *self.state.answer.lock().unwrap() = answer;
    }

    /// The number of requests since the last call.
    pub fn requests(&self) -> usize {
        self.state.requests.swap(0, Ordering::Relaxed)
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// Swallows every further packet on the open connections, as a network that has forgotten them.
    pub fn swallow_packets(&self) {
        for socket in self.state.open.lock().unwrap().iter() {
            socket.attach_filter(&[DROP]).unwrap();
        }
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    while read_request(&mut stream).await.is_some() {
        state.requests.fetch_add(1, Ordering::Relaxed);
        let Answer { after, bytes, closes } = state.answer.lock().unwrap().clone();
        tokio::time::sleep(after).await;
        if bytes.is_empty() {
            return std::future::pending().await;
        }
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
        if closes {
            let open: Vec<_> = state.open.lock().unwrap().drain(..).collect();
            for socket in open {
                let _ = socket.shutdown(std::net::Shutdown::Both);
            }
            return;
        }
    }
}

/// Reads one request to its end.
async fn read_request(stream: &mut TcpStream) -> Option<()> {
    let mut request = Vec::new();
    loop {
        let read = stream.read_buf(&mut request).await.ok()?;
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let (_, length) = head.split_once("content-length: ").unwrap();
            if body.len() >= length.split("\r\n").next().unwrap().parse().unwrap() {
                return Some(());
            }
        }
        if read == 0 {
            return None;
        }
    }
}
