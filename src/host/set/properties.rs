//! What holds for any hosts: what is folded is unfolded again, and nothing that is no host gets
//! through.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{HostSet, compare, fold};
use crate::host::Host;

/// Destinations that have much in common, so that there is something to fold.
fn destination() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        4 => (0..30_u32).prop_map(|number| number.to_string()),
        2 => (0..120_u32).prop_map(|number| format!("{number:02}")),
        1 => (95..105_u32).prop_map(|number| format!("{number:03}")),
        1 => "[0-9]{17,21}",
    ];
    let name = vec(
        prop_oneof![3 => number, 2 => "[a-c.]", 1 => Just("-".to_owned()), 1 => "[+~^=/#%ü]"],
        1..5,
    );
    let user = prop_oneof![
        4 => Just(String::new()),
        1 => "u[0-9]{1,2}@",
        1 => "a@",
        1 => "[a:#%/0-2+]{1,4}@",
    ];
    let port =
        prop_oneof![4 => Just(String::new()), 1 => (1..70_u32).prop_map(|port| format!(":{port}"))];
    let plain = (user, name, port).prop_map(|(user, name, port)| user + &name.concat() + &port);
    let address = prop_oneof![
        (0..20_u32).prop_map(|last| format!("fe80::{last}")),
        (0..20_u32, 1..30_u32).prop_map(|(last, port)| format!("[::{last}]:{port}")),
        "ssh://[ab0-9%+]{1,6}@h[0-9]{1,2}(:[1-9])?",
        "\\[[a-c0-9]{1,2}:[a-c]{1,2}\\](:[1-9])?",
    ];
    prop_oneof![8 => plain, 2 => address].prop_filter("a host", |text| text.parse::<Host>().is_ok())
}

/// What the notation is made of, well formed and not.
fn notation() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-c0-9.-]{0,3}",
        "\\[[0-9]{1,3}(-[0-9]{1,3})?(/[0-9])?(,[0-9]{1,2}){0,2}\\]",
        "[\\[\\],@:/ -]{1,3}",
        "ssh://[a-c%+0-9]{0,4}@?",
        any::<String>(),
    ];
    vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn what_is_folded_is_unfolded_again(names in vec(destination(), 0..40)) {
        let folded = fold(&names);
        let set: HostSet = folded.parse().expect("it is read again");
        let again: BTreeSet<&String> = set.iter().collect();
        let written = |name: &String| name.parse::<HostSet>().expect("a host").to_string();
        let names: Vec<String> = names.iter().map(written).collect();
        prop_assert_eq!(&again, &names.iter().collect(), "{}", folded);
        prop_assert_eq!(set.len(), again.len());
        // In whatever order, the same set is the same text.
        prop_assert_eq!(fold(names.iter().rev()), set.to_string());
    }

    #[test]
    fn any_text_is_hosts_or_an_error_of_one_line(text in notation()) {
        match text.parse::<HostSet>() {
            Ok(set) => {
                for host in &set {
                    prop_assert!(host.parse::<Host>().is_ok(), "{host:?}");
                }
                let again: HostSet = set.to_string().parse().expect("it is read again");
                prop_assert_eq!(set.iter().collect::<BTreeSet<_>>(), again.iter().collect());
            }
            Err(error) => {
                let message = error.to_string();
                prop_assert!(!message.contains(char::is_control), "{message:?}");
            }
        }
    }

    #[test]
    fn what_is_removed_is_gone_and_nothing_else(
        names in vec(destination(), 0..20),
        from in 0..20_usize,
    ) {
        let all: HostSet = names.join(",").parse().expect("hosts");
        let some: Vec<String> = names.iter().skip(from).cloned().collect();
        let some: HostSet = some.join(",").parse().expect("hosts");
        let mut left = all.clone();
        left.remove(&some);
        let name_of = |host: &str| host.parse::<Host>().expect("a host").name().to_owned();
        let names: BTreeSet<String> = some.iter().map(|host| name_of(host)).collect();
        for host in &all {
            prop_assert!(!some.contains(host) || !left.contains(host));
            // What has another name stays.
            prop_assert!(left.contains(host) || names.contains(&name_of(host)));
        }
    }

    #[test]
    fn the_order_is_one(a in destination(), b in destination(), c in destination()) {
        prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        prop_assert_eq!(compare(&a, &b).is_eq(), a == b);
        if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
            prop_assert!(compare(&a, &c).is_le());
        }
    }
}
