//! The `.proto` files say what wallets in use rely on: `vectors/contract.txt` lists every method,
//! message, field and enumeration value of the contract, one a line.
//!
//! A line that is missing here breaks wallets that are in use; our own packages are not listed.

use std::collections::BTreeSet;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto};

const PACKAGES: [&str; 6] = [
    "common",
    "multisig",
    "spark",
    "spark_token",
    "spark_authn",
    "mock",
];

fn kind(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::String => "string".into(),
        Type::Bytes => "bytes".into(),
        Type::Bool => "bool".into(),
        Type::Int32 => "int32".into(),
        Type::Int64 => "int64".into(),
        Type::Uint32 => "uint32".into(),
        Type::Uint64 => "uint64".into(),
        Type::Message | Type::Enum => field.type_name().trim_start_matches('.').to_owned(),
        other => panic!("no field of the contract is {other:?}"),
    }
}

fn field(owner: &str, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let entry = message.nested_type.iter().find(|nested| {
        nested
            .options
            .as_ref()
            .is_some_and(|options| options.map_entry())
            && field.type_name() == format!(".{owner}.{}", nested.name())
    });
    let optional = field.proto3_optional();
    let kind = match entry {
        Some(entry) => format!("map<{}, {}>", kind(&entry.field[0]), kind(&entry.field[1])),
        None if field.label() == Label::Repeated => format!("repeated {}", kind(field)),
        None if optional => format!("optional {}", kind(field)),
        None => kind(field),
    };
    let mut line = format!("field {owner} {} {} {kind}", field.number(), field.name());
    if let (Some(index), false) = (field.oneof_index, optional) {
        let index = usize::try_from(index).unwrap();
        line += &format!(" of {}", message.oneof_decl[index].name());
    }
    // The compiler fills in the usual JSON name; only another one is worth a word.
    let mut usual = String::new();
    let mut upper = false;
    for letter in field.name().chars() {
        match letter {
            '_' => upper = true,
            _ if upper => {
                usual.extend(letter.to_uppercase());
                upper = false;
            }
            _ => usual.push(letter),
        }
    }
    if field.json_name() != usual {
        line += &format!(" json {}", field.json_name());
    }
    line
}

fn enumeration(lines: &mut BTreeSet<String>, owner: &str, descriptor: &EnumDescriptorProto) {
    for value in &descriptor.value {
        lines.insert(format!(
            "enum {owner}.{} {} {}",
            descriptor.name(),
            value.number(),
            value.name()
        ));
    }
}

fn ours() -> BTreeSet<String> {
    let files = [
        "common.proto",
        "multisig.proto",
        "mock.proto",
        "spark_authn.proto",
        "spark/service.proto",
        "spark/tree_building.proto",
        "spark_token/service.proto",
    ];
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
    let set = protox::compile(files.map(|file| format!("{root}/{file}")), [root]).unwrap();
    let mut lines = BTreeSet::new();
    for file in set
        .file
        .iter()
        .filter(|file| PACKAGES.contains(&file.package()))
    {
        let package = file.package();
        for service in &file.service {
            for method in &service.method {
                lines.insert(format!(
                    "rpc {package}.{}/{} {} -> {}{}",
                    service.name(),
                    method.name(),
                    method.input_type().trim_start_matches('.'),
                    if method.server_streaming() {
                        "stream "
                    } else {
                        ""
                    },
                    method.output_type().trim_start_matches('.'),
                ));
                assert!(!method.client_streaming());
            }
        }
        for descriptor in &file.enum_type {
            enumeration(&mut lines, package, descriptor);
        }
        for message in &file.message_type {
            let owner = format!("{package}.{}", message.name());
            lines.insert(format!("message {owner}"));
            for descriptor in &message.enum_type {
                enumeration(&mut lines, &owner, descriptor);
            }
            for range in &message.reserved_range {
                for number in range.start()..range.end() {
                    lines.insert(format!("field {owner} {number} reserved"));
                }
            }
            for one in &message.field {
                lines.insert(field(&owner, message, one));
            }
        }
    }
    lines
}

#[test]
fn contract_with_wallets_is_kept_to_the_letter() {
    let listed: BTreeSet<String> = include_str!("vectors/contract.txt")
        .lines()
        .map(String::from)
        .collect();
    // Fields of our own have numbers that the contract leaves alone.
    let own = |line: &String| {
        let mut words = line.split(' ');
        words.next() == Some("field")
            && words
                .nth(1)
                .and_then(|number| number.parse::<u32>().ok())
                .is_some_and(|number| number >= 2000)
    };
    let ours: BTreeSet<String> = ours().into_iter().filter(|line| !own(line)).collect();
    let missing: Vec<_> = listed.difference(&ours).collect();
    let surplus: Vec<_> = ours.difference(&listed).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "missing {missing:#?}\nsurplus {surplus:#?}"
    );
}
