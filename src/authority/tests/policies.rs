//! The verification policy is what the log says, whatever was restarted, pruned or cut into snapshots meanwhile.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::credentials::{Bench, caller};
use crate::journal::memory::Fault;
use crate::revocation::ports::{ApplyPolicy, PolicyApplied, PolicyChoice, PolicyError, WriteError};
use crate::revocation::verification::{RouteClass, VerificationPolicy};

fn policy(class: u8) -> VerificationPolicy {
    let name = format!("class-{class}");
    let class = RouteClass { name, issuers: vec![], audiences: vec![], scopes: vec![], claims: vec![] };
    VerificationPolicy::new(vec![], vec![class]).unwrap()
}

fn apply(bench: &mut Bench, choice: PolicyChoice, dry_run: bool) -> Result<PolicyApplied, PolicyError> {
    let reason = "why".to_owned();
    let request =
        ApplyPolicy { caller: caller(), choice, expected_version: None, reason, dry_run, leave_behind: false };
    bench.running.apply_policy(request)
}

fn apply_class(bench: &mut Bench, class: u8) -> Result<PolicyApplied, PolicyError> {
    apply(bench, PolicyChoice::Text(policy(class), format!("# {class}")), false)
}

#[derive(Clone, Debug)]
enum Step {
    Apply(u8),
    Revert(u64),
    DryRun(u8),
    Write,
    Sleep(u8),
    Restart,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..6).prop_map(Step::Apply),
        2 => (0u64..30).prop_map(Step::Revert),
        1 => (0u8..6).prop_map(Step::DryRun),
        3 => Just(Step::Write),
        2 => (1u8..40).prop_map(Step::Sleep),
        2 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_policy_in_force_is_what_was_acknowledged(steps in prop::collection::vec(any_step(), 1..60)) {
        let mut bench = Bench::new();
        // The class of each version, from 1 on.
        let mut model: Vec<u8> = Vec::new();
        for step in steps {
            match step {
                Step::Apply(class) => {
                    let unchanged = model.last() == Some(&class);
                    let applied = apply_class(&mut bench, class).unwrap();
                    model.extend((!unchanged).then_some(class));
                    prop_assert_eq!((applied.version, applied.unchanged), (model.len() as u64, unchanged));
                }
                Step::Revert(version) => {
                    let kept = model.len().saturating_sub(16) as u64 + 1..=model.len() as u64;
                    let result = apply(&mut bench, PolicyChoice::Version(version), false);
                    if kept.contains(&version) {
                        let class = model[version as usize - 1];
                        let unchanged = model.last() == Some(&class);
                        model.extend((!unchanged).then_some(class));
                        prop_assert_eq!(result.unwrap().version, model.len() as u64);
                    } else {
                        prop_assert_eq!(result, Err(PolicyError::NoSuchVersion { version }));
                    }
                }
                Step::DryRun(class) => {
                    let choice = PolicyChoice::Text(policy(class), format!("# {class}"));
                    prop_assert_eq!(apply(&mut bench, choice, true).unwrap().position, None);
                }
                Step::Write => bench.write(),
                Step::Sleep(hours) => bench.time.advance(Duration::from_secs(u64::from(hours) * 3600)),
                Step::Restart => bench.restart(),
            }
            let kept = bench.running.policies();
            let found: Vec<_> = kept.iter().map(|one| (one.policy.version, one.source.clone())).collect();
            let all = (1..).zip(&model).map(|(version, class)| (version, format!("# {class}")));
            prop_assert_eq!(found, all.skip(model.len().saturating_sub(16)).collect::<Vec<_>>());
            let last = kept.last().map(|last| Arc::clone(&last.policy));
            prop_assert_eq!(&last, &bench.running.set().verification());
            prop_assert_eq!(last.map(|last| last.policy.clone()), model.last().map(|class| policy(*class)));
        }
    }
}

#[test]
fn a_policy_outlives_its_record_with_who_when_and_why() {
    let mut bench = Bench::new();
    (1..=18).for_each(|class| assert!(apply_class(&mut bench, class).is_ok()));
    for _ in 0..6 {
        bench.time.advance(Duration::from_secs(30 * 3600));
        bench.write();
    }
    assert!(bench.snapshots() > 0);
    assert!(bench.oldest() > 20, "the records were pruned");
    let (before, digest) = (bench.running.policies(), bench.running.set().digest());
    bench.restart();
    assert_eq!((bench.running.policies(), bench.running.set().digest()), (before.clone(), digest));
    let last = before.last().unwrap();
    assert_eq!((before.len(), last.policy.version, last.source.as_str()), (16, 18, "# 18"));
    assert_eq!((last.principal.as_str(), last.peer.as_str(), last.reason.as_str()), ("root", "127.0.0.1", "why"));
    assert_eq!(last.applied_at, super::durable::START);
}

#[test]
fn what_is_not_durable_is_not_in_force() {
    let mut bench = Bench::new();
    apply_class(&mut bench, 1).unwrap();
    let before = bench.running.set().verification();
    bench.disk.set_fault(Some(Fault::Full));
    let refused = apply_class(&mut bench, 2).unwrap_err();
    assert!(matches!(refused, PolicyError::Write(WriteError::Unavailable(_))), "{refused:?}");
    let now = bench.running.set().verification();
    assert!(before.as_ref().zip(now.as_ref()).is_some_and(|(before, now)| Arc::ptr_eq(before, now)));
    bench.disk.set_fault(None);
    bench.restart();
    assert_eq!(bench.running.set().verification(), before);
    assert_eq!(apply_class(&mut bench, 2).unwrap().version, 2);
}
