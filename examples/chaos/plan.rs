//! What goes wrong when: decided before the run, from the seed alone.

use std::time::Duration;

use iothub_emulator::hub::{Disruption, Effect, LinkKind, Reception, TelemetryRefusal};

pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) length: Duration,
}

pub(crate) struct Step {
    pub(crate) at: Duration,
    pub(crate) fault: Fault,
}

/// Numbers name modules or cables.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    Cut(usize),
    Freeze(usize),
    Mend(usize),
    /// A message that makes the hub misbehave towards its sender (amqp.md 7).
    Message(usize, &'static str),
    /// Something happens to what a module has open.
    Disrupt(usize, Disruption),
    /// The hub behaves badly towards one module on the next occasions.
    Towards(usize, Effect, u64),
    /// The hub behaves badly towards everybody for a time.
    Everybody(Effect, Duration),
    /// Clients are sent to where the hub is already.
    Redirect(usize, bool),
    /// The hub listens on another port.
    Failover,
}

const OPERATIONS: [&str; 14] = [
    "KillAmqpTwinLinkReq",
    "KillAmqpTwinLinkResp",
    "KillAmqpMethodReqLink",
    "KillAmqpMethodRespLink",
    "KillAmqpC2DLink",
    "KillAmqpD2CLink",
    "KillAmqpCBSLinkReq",
    "KillAmqpCBSLinkResp",
    "KillAmqpSession",
    "KillAmqpConnection",
    "KillTcp",
    "ShutDownAmqp",
    "InvokeThrottling",
    "InvokeMaxMessageQuota",
];

const LINKS: [LinkKind; 5] = [
    LinkKind::TwinRequests,
    LinkKind::TwinReplies,
    LinkKind::Telemetry,
    LinkKind::TokenRequests,
    LinkKind::TokenReplies,
];

impl Fault {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Cut(_) => "cable cut".into(),
            Self::Freeze(_) => "cable frozen".into(),
            Self::Mend(_) => "cable mended".into(),
            Self::Message(_, operation) => format!("message {operation}"),
            Self::Disrupt(_, disruption) => disruption.name().into(),
            Self::Towards(_, effect, _) | Self::Everybody(effect, _) => effect.name().into(),
            Self::Redirect(..) => "redirect".into(),
            Self::Failover => "failover".into(),
        }
    }
}

impl Plan {
    pub(crate) fn new(seed: u64, length: Duration, modules: usize) -> Self {
        let mut random = Random(seed);
        let mut steps = Vec::new();
        let mut at = Duration::ZERO;
        // The last tenth is for coming back.
        while at < length.mul_f64(0.9) {
            at += Duration::from_millis(random.below(40));
            let target = random.below(modules as u64) as usize;
            let (fault, whole_after) = match random.below(1_000) {
                0..250 => (Fault::Cut(target), Some(random.below(400))),
                250..330 => (Fault::Freeze(target), Some(random.below(6_000))),
                330..560 => (Fault::Message(target, random.choose(&OPERATIONS)), None),
                560..760 => (Fault::Disrupt(target, disruption(&mut random)), None),
                760..980 => {
                    let times = 1 + random.below(4);
                    (Fault::Towards(target, effect(&mut random), times), None)
                }
                980..985 => (Fault::Redirect(target, random.below(2) == 0), None),
                985..997 => {
                    let lasting = Duration::from_millis(random.below(600));
                    (Fault::Everybody(common_effect(&mut random), lasting), None)
                }
                _ => (Fault::Failover, None),
            };
            steps.push(Step { at, fault });
            if let Some(after) = whole_after {
                steps.push(Step { at: at + Duration::from_millis(after), fault: Fault::Mend(target) });
            }
        }
        steps.sort_by_key(|step| step.at);
        Self { steps, length }
    }
}

fn disruption(random: &mut Random) -> Disruption {
    match random.below(8) {
        0 => Disruption::DropConnection,
        1 => Disruption::CloseConnection,
        2 => Disruption::CloseConnectionQuietly,
        3 => Disruption::EndSession,
        4 => Disruption::StopReading(Duration::from_millis(random.below(5_000))),
        5 => Disruption::DetachLinkQuietly(random.choose(&LINKS)),
        _ => Disruption::DetachLink(random.choose(&LINKS)),
    }
}

fn effect(random: &mut Random) -> Effect {
    let moment = Duration::from_millis(random.below(300));
    match random.below(9) {
        0 => Effect::SwallowTwinReplies,
        1 => Effect::DelayTwinReplies(moment),
        2 => Effect::DelayNotifications(moment),
        3 => Effect::ReorderNotifications,
        4 => Effect::RefuseTokens(random.choose(&[429, 500, 503])),
        5 => Effect::SwallowTokens,
        6 => Effect::RefuseTelemetry(TelemetryRefusal::Throttled),
        7 => Effect::RefuseTelemetry(TelemetryRefusal::Quota),
        _ => Effect::RefuseTelemetry(TelemetryRefusal::Unauthorized),
    }
}

fn common_effect(random: &mut Random) -> Effect {
    match random.below(7) {
        0 => Effect::RefuseConnections(Reception::Close),
        1 => Effect::RefuseConnections(Reception::Silence),
        2 => Effect::SlowHttp(Duration::from_millis(random.below(200))),
        3 => Effect::FailHttp(503),
        4 => Effect::ThrottleHttp(None),
        5 => Effect::OmitNextIncomingId,
        _ => Effect::QueryLag(Duration::from_secs(1)),
    }
}

/// SplitMix64: small, and the same on every machine.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn choose<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}
