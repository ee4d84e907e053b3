//! Our engine as the client of rhea and of qpid-proton.

use tokio::{net::TcpStream, process::Child};

use crate::{
    limit,
    process::{Peer, listening},
};

/// A server of its own for each test.
struct Server {
    io: TcpStream,
    /// Ends the program when dropped.
    _program: Child,
}

async fn start(peer: Peer, max_frame_size: u32) -> Server {
    let mut command = peer.command("server");
    command.arg(max_frame_size.to_string());
    let (program, port) = listening(command).await;
    let io = limit("a connection", TcpStream::connect(("127.0.0.1", port))).await.unwrap();
    Server { io, _program: program }
}

mod rhea {
    use super::{Peer, start};
    use crate::suite::{one, suite};

    suite!(start(Peer::Rhea, 65_536), "needs rhea: tests/interop/run.sh");
    one!(a_mebibyte_out, start(Peer::Rhea, 65_536), "needs rhea: tests/interop/run.sh");
    one!(settling_in_two_steps_in, start(Peer::Rhea, 65_536), "needs rhea: tests/interop/run.sh");
    one!(settling_in_two_steps_out, start(Peer::Rhea, 65_536), "needs rhea: tests/interop/run.sh");

    // Without the mebibyte: rhea 3.0 sends no session flow inside one message, so it stalls after 2,048 frames.
    mod small_frames {
        use crate::suite::suite;

        suite!(super::start(super::Peer::Rhea, 512), "needs rhea: tests/interop/run.sh");
    }
}

mod proton {
    use super::{Peer, start};
    use crate::suite::{one, suite};

    suite!(start(Peer::Proton, 65_536), "needs qpid-proton: tests/interop/run.sh");
    one!(a_mebibyte_out, start(Peer::Proton, 65_536), "needs qpid-proton: tests/interop/run.sh");
    one!(settling_in_two_steps_in, start(Peer::Proton, 65_536), "needs qpid-proton: tests/interop/run.sh");
    one!(settling_in_two_steps_out, start(Peer::Proton, 65_536), "needs qpid-proton: tests/interop/run.sh");

    mod small_frames {
        use crate::suite::{one, suite};

        suite!(super::start(super::Peer::Proton, 512), "needs qpid-proton: tests/interop/run.sh");
        one!(
            a_mebibyte_out,
            super::start(super::Peer::Proton, 512),
            "needs qpid-proton: tests/interop/run.sh"
        );
    }
}
