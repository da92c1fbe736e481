//! The pure machine alone, with names that were answered before among those that were not.

use super::*;

/// Any order of beginnings, answers and time, over thousands of schedules: nothing is asked while the
/// store wants to be left alone, trials are few, and it always comes back.
#[test]
fn no_schedule_asks_too_much_or_for_ever_too_little() {
    let config = BreakerConfig {
        failures: 2,
        ..BreakerConfig::default()
    };
    for seed in 1..5_000_u64 {
        let mut draw = draws(seed);
        let mut endpoint = Endpoint::new(None);
        let mut now = Moment::ZERO;
        let mut flying = Vec::new();
        let (mut pause, mut last_known, mut closed) = (Moment::ZERO, None, true);
        for _ in 0..100 {
            match draw(4) {
                0 | 1 => {
                    let name = draw(8);
                    let before = endpoint.state;
                    let mut admitted = endpoint.admit(name, false, now, &config);
                    if let (None, true) = (&admitted, name < 2) {
                        admitted = endpoint.admit_known(name, now, &config);
                        if admitted.is_some() {
                            // Once each first opening, beside the trial and before its time.
                            let last = last_known.replace(now);
                            let far = |last| now.since(last) >= config.first_open;
                            assert!(last.is_none_or(far), "seed {seed}");
                            assert_eq!(endpoint.state, before);
                        }
                    } else if let (BreakerState::Open { until }, Some(_)) = (before, &admitted) {
                        assert!(now >= until, "seed {seed}");
                    }
                    assert!(admitted.is_none() || now >= pause, "seed {seed}");
                    flying.extend(admitted);
                }
                2 if !flying.is_empty() => {
                    let admission = flying.swap_remove(draw(flying.len() as u64) as usize);
                    let asked = Some(Duration::from_millis(draw(90_000)));
                    let evidence = match draw(8) {
                        0 => Evidence::Good,
                        1 => Evidence::Alive,
                        2 => Evidence::Nothing,
                        3 => Evidence::Bad(ErrorKind::Throttled, asked),
                        4 | 5 => Evidence::Bad(ErrorKind::Malformed, None),
                        _ => Evidence::Bad(ErrorKind::Timeout, None),
                    };
                    endpoint.settle(admission, evidence, now, &config);
                    if let Evidence::Bad(_, Some(asked)) = evidence {
                        pause = pause.max(now + asked.clamp(config.first_open, secs(60)));
                    }
                }
                _ => now = now + Duration::from_millis(draw(4_000)),
            }
            if endpoint.state == BreakerState::Closed {
                last_known = None;
            }
            closed |= endpoint.state == BreakerState::Closed;
            let latest = pause.max(now + config.longest_open);
            assert!(endpoint.admits_at(false, &config) <= latest, "seed {seed}");
        }
        assert!(closed);
        now = now + secs(60);
        let trial = endpoint.admit(7, false, now, &config).unwrap();
        endpoint.settle(trial, Evidence::Good, now, &config);
        assert_eq!(endpoint.state, BreakerState::Closed, "seed {seed}");
    }
}

/// A flood of names that hang, each for two seconds, and one name that is known, in each of these
/// outages of a store that is back after five seconds.
#[test]
fn a_flood_of_names_that_hang_does_not_keep_it_from_closing() {
    let config = BreakerConfig::default();
    let (back, attempt) = (secs(5), secs(2));
    let mut endpoint = Endpoint::new(None);
    let mut flying: Vec<(Moment, Admission, Evidence)> = Vec::new();
    let (mut healthy, mut refused, mut in_outage) = (0, 0, 0);
    let mut answered = None;
    for tick in 0..6_500_u64 {
        let now = Moment::ZERO + Duration::from_millis(tick * 10);
        flying.retain(|&(ends, admission, evidence)| {
            if ends <= now {
                endpoint.settle(admission, evidence, now, &config);
            }
            ends > now
        });
        let is_back = now.since(Moment::ZERO) >= back;
        let hangs = Evidence::Bad(ErrorKind::Timeout, None);
        // A new name of the flood each 10 ms; it comes first, and takes each place that it can.
        if let Some(admission) = endpoint.admit(1_000 + tick, false, now, &config) {
            flying.push((now + attempt, admission, hangs));
        }
        if tick % 25 == 24 {
            let admission = endpoint
                .admit(1, false, now, &config)
                .or_else(|| endpoint.admit_known(1, now, &config));
            match admission {
                Some(admission) if is_back => {
                    answered.get_or_insert(now);
                    flying.push((now + Duration::from_millis(20), admission, Evidence::Good));
                }
                Some(admission) => {
                    in_outage += 1;
                    flying.push((now + attempt, admission, hangs));
                }
                None if is_back => refused += 1,
                None => {}
            }
            healthy += usize::from(is_back);
        }
    }
    // Known by the schedule alone: before it opened the name was asked, too.
    assert!(in_outage <= 2 * 4 + 4, "{in_outage}");
    let waited = answered.unwrap().since(Moment::ZERO + back);
    assert!(waited <= secs(2), "{waited:?}");
    assert!(refused <= 8, "{refused} of {healthy} refused");
}
