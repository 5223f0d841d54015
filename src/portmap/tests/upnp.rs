//! Gateways of UPnP.

use super::bench::{Bench, Gateway, Says, at, network};
use crate::portmap::*;

const ROUTER: [u8; 4] = [10, 0, 0, 1];

/// A network without a router that could be asked otherwise.
fn lan() -> Network {
    Network { router: None, ..network(1) }
}

fn mapped_by(gateway: Gateway) -> Bench {
    let mut bench = Bench::new(vec![gateway]);
    bench.begin(&[lan()]);
    bench.run(at(2_000));
    bench
}

#[test]
fn a_gateway_maps_both_ports_renews_and_removes_them() {
    let mut bench = mapped_by(Gateway::upnp(ROUTER));
    assert_eq!(bench.mapped(), ["upnp tcp 6881", "upnp udp 6881"]);
    assert_eq!(bench.gateways[0].mappings, [(Protocol::Tcp, 6881, 3600), (Protocol::Udp, 6881, 3600)]);
    let asked = bench.asked_hosts().len();
    assert_eq!(asked, 4, "description, address, two ports");
    bench.run(at(2_401_000));
    assert_eq!((bench.asked_hosts().len(), bench.mapped().len()), (asked + 2, 2));
    bench.want(false);
    bench.run(at(2_402_000));
    assert!(bench.mapper.has_ended());
    assert_eq!(bench.gateways[0].removed, [(Protocol::Tcp, 6881), (Protocol::Udp, 6881)]);
}

#[test]
fn a_renewal_without_an_answer_costs_nothing_and_several_the_mappings() {
    for (silent_for, kept) in [(8_000, true), (60_000, true), (400_000, false)] {
        let mut bench = mapped_by(Gateway::upnp(ROUTER));
        let renewal = 2_400_000;
        bench.run(at(renewal - 1_000));
        let asked = bench.asked_hosts().len();
        bench.gateways[0].silent = true;
        bench.run(at(renewal + silent_for));
        bench.gateways[0].silent = false;
        bench.run(at(renewal + 500_000));
        let is_mapped = bench.ports() == (Some(6881), Some(6881));
        assert_eq!((is_mapped, bench.failures().len()), (kept, usize::from(!kept)), "{silent_for} ms");
        assert!(bench.asked_hosts().len() > asked + 2, "{silent_for} ms");
    }
}

#[test]
fn all_gateways_that_answer_are_asked() {
    let mut bench = Bench::new(vec![Gateway::upnp(ROUTER), Gateway::upnp([10, 0, 0, 2])]);
    bench.begin(&[lan()]);
    bench.run(at(2_000));
    assert!(bench.gateways.iter().all(|gateway| gateway.mappings.len() == 2));
}

#[test]
fn only_the_host_that_has_answered_is_contacted() {
    let mut bench = Bench::new(vec![Gateway::upnp(ROUTER)]);
    bench.location = Some("http://192.0.2.66:81/reboot".to_owned());
    bench.begin(&[lan()]);
    bench.run(at(2_000));
    assert_eq!(bench.mapped().len(), 2);
    let first = bench.outputs.iter().find_map(|(_, output)| match output {
        PortMapOutput::Ask { request, .. } => Some((request.to, request.path.clone())),
        _ => None,
    });
    assert_eq!(first, Some(("10.0.0.1:81".parse().unwrap(), "/reboot".to_owned())));
    assert!(bench.asked_hosts().iter().all(|host| *host == Ipv4Addr::from(ROUTER)));
}

#[test]
fn a_taken_port_is_left_to_its_owner_and_another_is_asked_for() {
    let mut bench = mapped_by(Gateway { taken: vec![6881], ..Gateway::upnp(ROUTER) });
    let (tcp, udp) = bench.ports();
    assert!(tcp.is_some() && tcp == udp && tcp != Some(6881), "{tcp:?}, {udp:?}");
    bench.want(false);
    bench.run(at(3_000));
    let removed: Vec<u16> = bench.gateways[0].removed.iter().map(|(_, port)| *port).collect();
    assert!(removed.len() == 2 && !removed.contains(&6881), "{removed:?}");
}

#[test]
fn a_gateway_that_refuses_everything_is_asked_for_five_ports_and_no_more() {
    for code in [718, 501] {
        let bench = mapped_by(Gateway { refuses: Some(code), ..Gateway::upnp(ROUTER) });
        assert_eq!(bench.asked_hosts().len(), 2 + 2 * 5);
        assert_eq!(bench.failures(), vec![format!("upnp: it refuses: error {code}"); 2]);
    }
    let bench = mapped_by(Gateway { refuses: Some(606), ..Gateway::upnp(ROUTER) });
    assert_eq!(bench.asked_hosts().len(), 2 + 2);
}

#[test]
fn a_gateway_that_knows_no_leases_gets_mappings_without_end_and_they_are_removed() {
    let mut bench = mapped_by(Gateway { endless: true, ..Gateway::upnp(ROUTER) });
    assert_eq!(bench.gateways[0].mappings, [(Protocol::Tcp, 6881, 0), (Protocol::Udp, 6881, 0)]);
    let is_endless =
        |output: &PortMapOutput| matches!(output, PortMapOutput::Mapped(Mapping { lifetime: None, .. }));
    assert_eq!(bench.outputs.iter().filter(|(_, output)| is_endless(output)).count(), 2);
    // It may have been switched off and on.
    bench.gateways[0].mappings.clear();
    bench.run(at(2_500_000));
    assert_eq!(bench.gateways[0].mappings.len(), 2);
    bench.want(false);
    bench.run(at(2_501_000));
    assert!(bench.gateways[0].mappings.is_empty() && bench.mapper.has_ended());
}

#[test]
fn what_a_gateway_maps_still_and_does_not_renew_is_removed() {
    for (code, gone) in [(606, true), (501, true), (718, false)] {
        let mut bench = mapped_by(Gateway::upnp(ROUTER));
        bench.gateways[0].refuses = Some(code);
        bench.run(at(2_402_000));
        assert_eq!(bench.ports(), (None, None));
        // In a conflict it is another's by now.
        assert_eq!(bench.gateways[0].mappings.is_empty(), gone, "error {code}");
        assert_eq!(bench.gateways[0].removed.len(), if gone { 2 } else { 0 }, "error {code}");
        // It is asked again later, and what it maps then is removed at the end.
        bench.gateways[0].refuses = None;
        bench.run(at(2_402_000 + 16 * 60_000));
        assert_eq!(bench.mapped().len(), 4);
        bench.want(false);
        bench.run(at(2_403_000 + 16 * 60_000));
        assert!(bench.mapper.has_ended() && bench.gateways[0].mappings.is_empty());
    }
}

#[test]
fn what_may_be_mapped_is_removed_at_the_end_whatever_was_answered() {
    for (says, mapped) in [(Says::Nothing, 1), (Says::Broken, 0)] {
        let mut bench = Bench::new(vec![Gateway { says, ..Gateway::upnp(ROUTER) }]);
        bench.begin(&[lan()]);
        bench.run(at(5_000));
        assert_eq!((bench.gateways[0].mappings.len(), bench.failures().len()), (2, 1), "{says:?}");
        let (tcp, udp) = bench.ports();
        assert_eq!(usize::from(tcp.is_some()) + usize::from(udp.is_some()), mapped, "{says:?}");
        bench.want(false);
        bench.run(at(6_000));
        assert!(bench.mapper.has_ended(), "{says:?}");
        assert_eq!(bench.gateways[0].mappings, [], "{says:?}");
    }
}

#[test]
fn packets_alone_are_let_in_where_callers_come_by_them() {
    let mut bench = Bench::new(vec![Gateway::upnp(ROUTER)]);
    bench.mapper = PortMapper::new(6881, &[Protocol::Udp], 7);
    bench.begin(&[lan()]);
    bench.run(at(2_000));
    assert_eq!(bench.mapped(), ["upnp udp 6881"]);
    let MappedPorts { tcp, udp, network } = bench.mapper.mapped_ports();
    assert_eq!((tcp, udp, network), (None, Some(6881), Some(lan())));
}

#[test]
fn a_gateway_that_hangs_costs_an_event_and_is_searched_again_later() {
    let mut bench = mapped_by(Gateway::upnp(ROUTER));
    bench.gateways[0].silent = true;
    bench.run(at(2_700_000));
    assert_eq!(bench.failures(), ["upnp: it hangs"]);
    assert_eq!(bench.ports(), (None, None));
    bench.gateways[0].silent = false;
    bench.run(at(3_700_000));
    assert_eq!(bench.mapped().len(), 4);
    // At the end nobody waits for longer than this.
    bench.gateways[0].silent = true;
    bench.want(false);
    bench.run(at(3_700_000) + FAREWELL);
    assert!(bench.mapper.has_ended());
}

#[test]
fn at_the_end_a_description_that_does_not_come_is_not_waited_for() {
    let mut bench = Bench::new(vec![Gateway::upnp(ROUTER)]);
    bench.begin(&[lan()]);
    bench.run(at(5));
    bench.gateways[0].silent = true;
    bench.run(at(500));
    assert_eq!(bench.asked_hosts().len(), 1);
    bench.want(false);
    bench.run(at(500));
    assert!(bench.mapper.has_ended());
}

#[test]
fn a_port_that_is_being_mapped_at_the_end_is_removed() {
    let mut bench = Bench::new(vec![Gateway::upnp(ROUTER)]);
    bench.begin(&[lan()]);
    // The first mapping is asked for, and not answered.
    bench.run(at(35));
    assert_eq!((bench.asked_hosts().len(), bench.mapped().len()), (3, 0));
    bench.want(false);
    bench.run(at(1_000));
    assert!(bench.mapper.has_ended() && bench.gateways[0].mappings.is_empty());
}

#[test]
fn a_flood_of_answers_does_not_keep_out_the_router() {
    let mut bench = Bench::new(Vec::new());
    bench.begin(&[network(1)]);
    bench.run(at(5));
    for number in 0..10_000u32 {
        let data = super::bench::ssdp_answer(&format!("http://10.0.0.1/{number}"));
        let [_, _, high, low] = number.to_be_bytes();
        let from = std::net::SocketAddrV4::new([10, 0, high, low].into(), 1900);
        bench.mapper.handle(bench.now, PortMapInput::DeviceFound { network: network(1), from, data: &data });
    }
    assert_eq!(bench.mapper.devices.len(), MAX_DEVICES);
    bench.mapper.devices.retain(|device| device.host != Ipv4Addr::from(ROUTER));
    let data = super::bench::ssdp_answer("http://10.0.0.1:5000/desc.xml");
    let from = std::net::SocketAddrV4::new(ROUTER.into(), 1900);
    bench.mapper.handle(bench.now, PortMapInput::DeviceFound { network: network(1), from, data: &data });
    assert!(bench.mapper.devices.iter().any(|device| device.host == Ipv4Addr::from(ROUTER)));
}

#[test]
fn what_answers_when_nothing_is_searched_is_ignored() {
    let mut bench = Bench::new(Vec::new());
    bench.begin(&[lan()]);
    bench.run(at(200_000));
    let data = super::bench::ssdp_answer("http://10.0.0.1:5000/desc.xml");
    let from = std::net::SocketAddrV4::new(ROUTER.into(), 1900);
    bench.mapper.handle(bench.now, PortMapInput::DeviceFound { network: lan(), from, data: &data });
    assert!(bench.mapper.devices.is_empty());
}
