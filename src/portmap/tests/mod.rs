//! The machine in virtual time, with scripted gateways.

mod bench;
mod routers;
mod upnp;

use std::net::SocketAddrV4;

use bench::{Bench, Gateway, at, network};

use super::*;

#[test]
fn nothing_is_sent_before_it_is_wanted_and_after_it_has_ended() {
    let mut bench = Bench::new(Vec::new());
    bench.mapper.handle(bench.now, PortMapInput::Networks(&[network(1)]));
    assert!(bench.run(at(10_000)).is_empty() && bench.mapper.has_ended());
    bench.want(true);
    assert!(!bench.run(at(10_100)).is_empty() && !bench.mapper.has_ended());
    bench.want(false);
    bench.run(at(10_200));
    assert!(bench.mapper.has_ended() && bench.mapper.deadline().is_none());
}

#[test]
fn where_the_router_maps_upnp_is_not_needed_of_it_but_of_others() {
    let (router, other) = ([10, 0, 0, 1], [10, 0, 0, 9]);
    let mut bench = Bench::new(vec![Gateway::nat_pmp(router), Gateway::upnp(router), Gateway::upnp(other)]);
    bench.begin(&[network(1)]);
    bench.run(at(5_000));
    assert_eq!(bench.mapped(), ["nat-pmp tcp 6881", "nat-pmp udp 6881", "upnp tcp 6881", "upnp udp 6881"]);
    assert!(bench.asked_hosts().iter().all(|host| *host == Ipv4Addr::from(other)));
}

#[test]
fn where_the_router_does_not_map_upnp_is_asked_a_second_later() {
    let router = [10, 0, 0, 1];
    let mut bench = Bench::new(vec![Gateway::upnp(router)]);
    bench.begin(&[network(1)]);
    bench.run(at(999));
    assert!(bench.asked_hosts().is_empty());
    bench.run(at(1_500));
    assert_eq!(bench.mapped(), ["upnp tcp 6881", "upnp udp 6881"]);
    assert_eq!(bench.ports(), (Some(6881), Some(6881)));
}

#[test]
fn a_network_that_is_gone_takes_its_mappings_along_and_a_new_one_is_asked() {
    let mut bench = Bench::new(vec![Gateway::pcp([10, 0, 0, 1]), Gateway::pcp([10, 1, 0, 1])]);
    bench.begin(&[network(0)]);
    bench.run(at(1_000));
    assert_eq!(bench.mapped().len(), 2);
    bench.mapper.handle(bench.now, PortMapInput::Networks(&[network(1)]));
    assert_eq!(bench.ports(), (None, None));
    bench.mapper.handle(bench.now, PortMapInput::Networks(&[]));
    bench.run(at(2_000));
    assert_eq!(bench.mapper.deadline(), None);
}

#[test]
fn any_bytes_at_any_time_cost_a_bounded_number_of_outputs() {
    for seed in 0..200 {
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut mapper = PortMapper::new(6881, &[Protocol::Tcp, Protocol::Udp], seed);
        let (mut now, networks) = (Instant::now(), [network(1), network(2)]);
        mapper.handle(now, PortMapInput::Networks(&networks));
        mapper.handle(now, PortMapInput::Want(true));
        let (mut exchanges, mut outputs) = (Vec::new(), 0);
        for _ in 0..300 {
            now += Duration::from_millis(rng.u64(..2000));
            let network = networks[rng.usize(..2)];
            let mut data: Vec<u8> = (0..rng.usize(..70)).map(|_| rng.u8(..)).collect();
            if let Some(first) = data.first_mut() {
                *first = rng.u8(..3);
            }
            if data.len() > 4 {
                (data[1], data[3]) = (128 + rng.u8(..4), rng.u8(..3));
            }
            match rng.u8(..6) {
                0 | 1 => mapper.handle(now, PortMapInput::Packet { network, data: &data }),
                2 => mapper.handle(now, PortMapInput::Unreachable(network)),
                3 => {
                    let data = bench::ssdp_answer(&format!("http://x/{}", rng.u8(..)));
                    let from = SocketAddrV4::new([10, 0, 0, rng.u8(..)].into(), 1900);
                    mapper.handle(now, PortMapInput::DeviceFound { network, from, data: &data });
                }
                4 => mapper.handle(now, PortMapInput::Want(rng.u8(..4) > 0)),
                _ => {
                    if let Some(exchange) = exchanges.pop() {
                        let status = if rng.bool() { 200 } else { 500 };
                        let body = bench::odd_body(&mut rng, &data);
                        let answer = if rng.u8(..8) == 0 {
                            Err("it hangs".to_owned())
                        } else {
                            Ok(DeviceAnswer { status, body })
                        };
                        mapper.handle(now, PortMapInput::Answered { exchange, answer });
                    }
                }
            }
            while let Some(output) = mapper.poll(now) {
                outputs += 1;
                if let PortMapOutput::Ask { exchange, .. } = output {
                    exchanges.push(exchange);
                }
            }
            assert!(mapper.devices.len() <= MAX_DEVICES + 2 * MAX_DEVICES_OF_HOST);
            assert!(mapper.deadline().is_none_or(|due| due > now));
        }
        assert!(outputs < 300 * 12, "{outputs}");
        mapper.handle(now, PortMapInput::Want(false));
        while mapper.poll(now).is_some() {}
        now += FAREWELL;
        while mapper.poll(now).is_some() {}
        assert!(mapper.has_ended() && mapper.deadline().is_none());
    }
}
