//! What goes wrong when: decided before the run, from the seed alone.

use std::time::Duration;

pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) length: Duration,
}

pub(crate) struct Step {
    pub(crate) at: Duration,
    pub(crate) fault: Fault,
}

/// Numbers name modules or cables.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    Cut(usize),
    Freeze(usize),
    Mend(usize),
    /// A message that makes the hub misbehave towards its sender (amqp.md 7).
    Message(usize, &'static str),
    /// Half of all calls over HTTPS, for two seconds.
    Throttle,
}

const OPERATIONS: [&str; 15] = [
    "KillAmqpTwinLinkReq",
    "KillAmqpTwinLinkResp",
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

impl Plan {
    pub(crate) fn new(seed: u64, length: Duration, modules: usize) -> Self {
        let mut random = Random(seed);
        let mut steps = Vec::new();
        let mut at = Duration::ZERO;
        // The last tenth is for coming back.
        while at < length.mul_f64(0.9) {
            at += Duration::from_millis(random.below(40));
            let target = random.below(modules as u64) as usize;
            match random.below(1_000) {
                0..=299 => {
                    steps.push(Step { at, fault: Fault::Cut(target) });
                    let whole = at + Duration::from_millis(random.below(400));
                    steps.push(Step { at: whole, fault: Fault::Mend(target) });
                }
                300..=399 => {
                    steps.push(Step { at, fault: Fault::Freeze(target) });
                    let whole = at + Duration::from_millis(random.below(6_000));
                    steps.push(Step { at: whole, fault: Fault::Mend(target) });
                }
                400..=997 => {
                    let operation = OPERATIONS[random.below(OPERATIONS.len() as u64) as usize];
                    steps.push(Step { at, fault: Fault::Message(target, operation) });
                }
                _ => steps.push(Step { at, fault: Fault::Throttle }),
            }
        }
        steps.sort_by_key(|step| step.at);
        Self { steps, length }
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
}
