//! What the pictures look like.

use celeriac_primitives::{
    Canvas, Completion, Incarnation, Json, Outcome, RunId, Signature, TaskError, TaskName,
};
use insta::assert_snapshot;

use super::*;
use crate::view::standings;
use crate::{RunState, text};

#[track_caller]
fn plan(text: &str) -> Plan {
    Plan::compile(&text::parse(text).unwrap()).unwrap()
}

#[track_caller]
fn draw(text: &str) -> String {
    tree(&plan(text), None, FOLD_ABOVE)
}

const CHORD: &str = "chord([add.s(1, 1), group(b.s(), c.s() | d.s(8))], xsum.s())";
const ERRBACKS: &str = "(a.s() | b.si().link(cb.s())).link_error(e.s())";
const PARTS: &str =
    "group(a.s(), b.s().finally(f.s())).set(on_failure='collect') | group(c.s()).set(on_failure='drop')";
const JOINS: &str = "group(a.s(), b.s()) | group(c.s(), d.si())";

#[test]
fn a_single_task_is_one_line() {
    assert_snapshot!(draw("add.s(2, y=2)"), @r"
    n1 add.s(2, y=2)
    => n1
    ");
}

#[test]
fn a_chain_lists_its_steps() {
    assert_snapshot!(draw("proj.tasks.add.s(4, 4) | mul.s(8) | done.si()"), @r"
    chain
    ├─ chain[0] n1 proj.tasks.add.s(4, 4)
    ├─ chain[1] n2 mul.s(n1, 8)
    └─ chain[2] n3 done.s() after n2
    => n3
    ");
}

#[test]
fn a_chord_shows_header_and_body_and_nested_groups_stand_where_they_were_written() {
    assert_snapshot!(draw(CHORD), @r"
    chord
    ├─ header[0] n1 add.s(1, 1)
    ├─ header[1] group
    │  ├─ group[0] n2 b.s()
    │  └─ group[1] chain
    │     ├─ chain[0] n3 c.s()
    │     └─ chain[1] n4 d.s(n3, 8)
    └─ body n5 xsum.s([n1, n2, n4])
    => n5
    ");
}

#[test]
fn callbacks_and_errbacks_stand_below_what_they_belong_to() {
    assert_snapshot!(draw(ERRBACKS), @r"
    chain
    ├─ chain[0] n1 a.s()
    ├─ chain[1] n2 b.s() after n1
    │  └─ link[0] n3 cb.s(n2)
    └─ link_error[0] n4 e.s(failure of canvas)
    => n2
    ");
}

#[test]
fn an_errback_of_a_group_has_a_line_for_each_member() {
    assert_snapshot!(draw("group(a.s(), b.s()).link_error(e.s() | f.s())"), @r"
    group
    ├─ group[0] n1 a.s()
    ├─ group[1] n4 b.s()
    └─ link_error[0] chain
       ├─ chain[0]
       │  ├─ n2 e.s(failure of group[0])
       │  └─ n5 e.s(failure of group[1])
       └─ chain[1]
          ├─ n3 f.s(n2)
          └─ n6 f.s(n5)
    => [n1, n4]
    ");
}

#[test]
fn a_join_stands_before_those_it_feeds() {
    assert_snapshot!(draw(JOINS), @r"
    chain
    ├─ chain[0] group
    │  ├─ group[0] n1 a.s()
    │  └─ group[1] n2 b.s()
    └─ chain[1] group
       ├─ n3 join([n1, n2])
       ├─ group[0] n4 c.s(n3)
       └─ group[1] n5 d.s() after n3
    => [n4, n5]
    ");
}

#[test]
fn chunks_and_maps_show_their_items() {
    assert_snapshot!(draw("x.s() | add.chunks([[1, 1], [2, 2], [3, 3]], 2) | xsum.map([[1, 2], [3]])"), @r"
    chain
    ├─ chain[0] n1 x.s()
    ├─ chain[1] chunks
    │  ├─ chunk[0] n2 add.starmap([[1, 1], [2, 2]]) after n1
    │  └─ chunk[1] n3 add.starmap([[3, 3]]) after n1
    └─ chain[2] n4 xsum.map([[1, 2], [3]]) after n2, n3
    => n4
    ");
}

#[test]
fn what_is_empty_has_a_value_and_no_nodes() {
    assert_snapshot!(draw("group()"), @"=> []");
    assert_snapshot!(draw("a.s() | group() | b.s().set(queue='hi')"), @r#"
    chain
    ├─ chain[0] n1 a.s()
    └─ chain[2] n2 b.s([] after n1).set(queue="hi")
    => n2
    "#);
}

#[test]
fn long_runs_of_alike_siblings_are_folded() {
    assert_snapshot!(draw("chord((add.s(i, i) for i in range(10000)), xsum.s())"), @r"
    chord
    ├─ header[0] n1 add.s(0, 0)
    ├─ header[1] n2 add.s(1, 1)
    ├─ header[2] n3 add.s(2, 2)
    ├─ header[3] n4 add.s(3, 3)
    ├─ header[4] n5 add.s(4, 4)
    ├─ header[5] n6 add.s(5, 5)
    ├─ header[6] n7 add.s(6, 6)
    ├─ header[7] n8 add.s(7, 7)
    ├─ header[8] n9 add.s(8, 8)
    ├─ … 9,990 more
    ├─ header[9999] n10000 add.s(9999, 9999)
    └─ body n10001 xsum.s([n1, n2, n3, … 9,996 more, n10000])
    => n10001
    ");
    assert_snapshot!(draw("group(group(a.s() | b.s() for i in range(1000)), c.s())"), @r"
    group
    ├─ group[0] group
    │  ├─ group[0] chain
    │  │  ├─ chain[0] n1 a.s()
    │  │  └─ chain[1] n2 b.s(n1)
    │  ├─ group[1] chain
    │  │  ├─ chain[0] n3 a.s()
    │  │  └─ chain[1] n4 b.s(n3)
    │  ├─ group[2] chain
    │  │  ├─ chain[0] n5 a.s()
    │  │  └─ chain[1] n6 b.s(n5)
    │  ├─ group[3] chain
    │  │  ├─ chain[0] n7 a.s()
    │  │  └─ chain[1] n8 b.s(n7)
    │  ├─ group[4] chain
    │  │  ├─ chain[0] n9 a.s()
    │  │  └─ chain[1] n10 b.s(n9)
    │  ├─ group[5] chain
    │  │  ├─ chain[0] n11 a.s()
    │  │  └─ chain[1] n12 b.s(n11)
    │  ├─ group[6] chain
    │  │  ├─ chain[0] n13 a.s()
    │  │  └─ chain[1] n14 b.s(n13)
    │  ├─ group[7] chain
    │  │  ├─ chain[0] n15 a.s()
    │  │  └─ chain[1] n16 b.s(n15)
    │  ├─ group[8] chain
    │  │  ├─ chain[0] n17 a.s()
    │  │  └─ chain[1] n18 b.s(n17)
    │  ├─ … 990 more
    │  └─ group[999] chain
    │     ├─ chain[0] n1999 a.s()
    │     └─ chain[1] n2000 b.s(n1999)
    └─ group[1] n2001 c.s()
    => [n2, n4, n6, … 997 more, n2001]
    ");
}

#[test]
fn a_run_just_above_the_limit_is_drawn_whole_and_nothing_hides_what_differs() {
    assert_eq!(draw("group(a.s() for i in range(11))").lines().count(), 13);
    assert!(draw("group(a.s() for i in range(12))").contains("├─ … 2 more\n"));
    let alternating = Canvas::group((0..100).map(|i| Signature::new(["a", "b"][i % 2]).unwrap().into()));
    assert_eq!(tree(&Plan::compile(&alternating).unwrap(), None, 10).lines().count(), 102);
    assert_eq!(tree(&plan("group(a.s() for i in range(100))"), None, usize::MAX).lines().count(), 102);
}

/// A run in which a member of the header has failed, and its errback is under way.
fn failed() -> (Plan, Vec<Standing>) {
    let plan = plan(
        "(chord([group(ok.s(i) for i in range(20)), bad.s(), slow.s()], body.s()) | next.s()).link_error(e.s())",
    );
    let (mut state, first) = RunState::start(&plan);
    let completions = first[..21].iter().enumerate().map(|(i, release)| {
        let outcome = match i {
            20 => Outcome::Failed(TaskError::new("E", "boom")),
            _ => Outcome::Success(Json::null()),
        };
        let (task_id, incarnation) = (RunId::from_parts(0, 0).task(release.node), Incarnation::default());
        Completion { task_id, attempt: 1, outcome, incarnation }
    });
    state.settle(&plan, completions.collect::<Vec<_>>());
    let standings = standings(&plan, &state.phases().collect::<Vec<_>>(), state.ended());
    (plan, standings)
}

#[test]
fn marks_tell_how_nodes_stand_and_nodes_that_stand_differently_are_not_folded() {
    let (plan, standings) = failed();
    assert_snapshot!(tree(&plan, Some(&standings), 3), @r"
    chain
    ├─ chain[0] chord
    │  ├─ header[0] group
    │  │  ├─ group[0] ✓ n1 ok.s(0)
    │  │  ├─ group[1] ✓ n2 ok.s(1)
    │  │  ├─ … 17 more
    │  │  └─ group[19] ✓ n20 ok.s(19)
    │  ├─ header[1] ✗ n21 bad.s()
    │  ├─ header[2] ▶ n22 slow.s()
    │  └─ body ⊘ n23 body.s([n1, n2, n3, … 18 more, n22]) (n21 failed)
    ├─ chain[1] ⊘ n24 next.s(n23) (n21 failed)
    └─ link_error[0] ▶ n25 e.s(failure of canvas)
    => n24
    ");
}

#[test]
fn dot_draws_scopes_as_clusters() {
    assert_snapshot!(dot(&plan(ERRBACKS), None), @r#"
    digraph plan {
      compound=true;
      node [shape=box, fontname="monospace"];
      edge [fontname="monospace"];
      subgraph cluster_s1 {
      label="s1 errback"; style=dashed; color=red;
      n1 [label="n1 a.s()\nchain[0]"];
      n2 [label="n2 b.s() after n1\nchain[1]", peripheries=2];
      subgraph cluster_s2 {
      label="s2 detached"; style=dashed; color=gray;
      n3 [label="n3 cb.s(n2)\nchain[1].link[0]"];
      }
      }
      subgraph cluster_s3 {
      label="s3 detached"; style=dashed; color=gray;
      n4 [label="n4 e.s(failure of canvas)\nlink_error[0]"];
      }
      n1 -> n2 [style=dashed];
      n2 -> n3;
      n2 -> n4 [style=dotted, color=red, ltail=cluster_s1];
    }
    "#);
}

#[test]
fn parts_that_may_fail_are_scopes_with_edges_of_their_own() {
    assert_snapshot!(draw(PARTS), @r"
    chain
    ├─ chain[0] group
    │  ├─ n5 join([entry of n1, entry of n2])
    │  ├─ group[0] n1 a.s()
    │  └─ group[1]
    │     ├─ n2 b.s()
    │     ├─ n3 join(entry of n2)
    │     └─ finally[0] n4 f.s(n3)
    └─ chain[1] group
       ├─ n7 join([n6?])
       └─ group[0] n6 c.s(n5)
    => n7
    ");
    assert_snapshot!(dot(&plan(PARTS), None), @r#"
    digraph plan {
      compound=true;
      node [shape=box, fontname="monospace"];
      edge [fontname="monospace"];
      n5 [label="n5 join([entry of n1, entry of n2])\nchain[0]", shape=ellipse];
      n7 [label="n7 join([n6?])\nchain[1]", shape=ellipse, peripheries=2];
      subgraph cluster_s1 {
      label="s1 absorb"; style=dashed; color=orange;
      n1 [label="n1 a.s()\nchain[0].group[0]"];
      }
      subgraph cluster_s2 {
      label="s2 absorb"; style=dashed; color=orange;
      n3 [label="n3 join(entry of n2)\nchain[0].group[1]", shape=ellipse];
      subgraph cluster_s3 {
      label="s3 finally"; style=dashed; color=blue;
      n2 [label="n2 b.s()\nchain[0].group[1]"];
      }
      subgraph cluster_s4 {
      label="s4 detached"; style=dashed; color=gray;
      n4 [label="n4 f.s(n3)\nchain[0].group[1].finally[0]"];
      }
      }
      subgraph cluster_s5 {
      label="s5 absorb"; style=dashed; color=orange;
      n6 [label="n6 c.s(n5)\nchain[1].group[0]"];
      }
      n2 -> n3 [color=orange];
      n3 -> n4;
      n1 -> n5 [color=orange];
      n2 -> n5 [color=orange];
      n5 -> n6;
      n6 -> n7 [color=orange];
    }
    "#);
    assert_snapshot!(mermaid(&plan(PARTS), None), @r#"
    flowchart TD
      n5(["n5 join([entry of n1, entry of n2])<br/>chain[0]"])
      n7(["n7 join([n6#63;])<br/>chain[1]"])
      subgraph s1["s1 absorb"]
      n1["n1 a.s()<br/>chain[0].group[0]"]
      end
      subgraph s2["s2 absorb"]
      n3(["n3 join(entry of n2)<br/>chain[0].group[1]"])
      subgraph s3["s3 finally"]
      n2["n2 b.s()<br/>chain[0].group[1]"]
      end
      subgraph s4["s4 detached"]
      n4["n4 f.s(n3)<br/>chain[0].group[1].finally[0]"]
      end
      end
      subgraph s5["s5 absorb"]
      n6["n6 c.s(n5)<br/>chain[1].group[0]"]
      end
      n2 ==> n3
      n3 --> n4
      n1 ==> n5
      n2 ==> n5
      n5 --> n6
      n6 ==> n7
    "#);
    assert_snapshot!(json(&plan("group(a.s()).set(on_failure='drop').finally(f.s())"), None), @r#"{"nodes":[{"number":1,"path":"group[0]","kind":"leaf","task":"a","call":"once","args":[],"kwargs":{},"queue":null,"input":null,"after":[],"gate":null,"scope":2},{"number":2,"path":"canvas","kind":"join","task":null,"call":null,"args":null,"kwargs":null,"queue":null,"input":{"list":[{"kept":1,"scope":2}]},"after":[],"gate":null,"scope":1},{"number":3,"path":"canvas","kind":"join","task":null,"call":null,"args":null,"kwargs":null,"queue":null,"input":{"entry":2,"scope":1},"after":[],"gate":null,"scope":0},{"number":4,"path":"finally[0]","kind":"leaf","task":"f","call":"once","args":[],"kwargs":{},"queue":null,"input":{"node":3},"after":[],"gate":null,"scope":3}],"edges":[{"from":1,"to":2,"kind":"part","slot":0,"scope":2},{"from":2,"to":3,"kind":"part","slot":0,"scope":1},{"from":3,"to":4,"kind":"data","slot":0}],"scopes":[{"number":0,"parent":null,"kind":"run"},{"number":1,"parent":0,"kind":"finally"},{"number":2,"parent":1,"kind":"absorb"},{"number":3,"parent":0,"kind":"detached"}],"output":{"node":2}}"#);
}

#[test]
fn dot_draws_joins_and_the_value() {
    assert_snapshot!(dot(&plan(JOINS), None), @r#"
    digraph plan {
      compound=true;
      node [shape=box, fontname="monospace"];
      edge [fontname="monospace"];
      n1 [label="n1 a.s()\nchain[0].group[0]"];
      n2 [label="n2 b.s()\nchain[0].group[1]"];
      n3 [label="n3 join([n1, n2])\nchain[1]", shape=ellipse];
      n4 [label="n4 c.s(n3)\nchain[1].group[0]", peripheries=2];
      n5 [label="n5 d.s() after n3\nchain[1].group[1]", peripheries=2];
      n1 -> n3;
      n2 -> n3;
      n3 -> n4;
      n3 -> n5 [style=dashed];
    }
    "#);
}

#[test]
fn dot_colours_how_nodes_stand() {
    let (plan, standings) = failed();
    let coloured: Vec<String> = dot(&plan, Some(&standings))
        .lines()
        .filter_map(|line| {
            Some(format!("{} {}", line.trim().split_once(' ')?.0, line.split_once("fillcolor=")?.1))
        })
        .collect();
    assert_eq!(
        coloured[19..],
        [
            "n20 palegreen];",
            "n21 salmon];",
            "n22 lightblue];",
            "n23 lightgray];",
            "n24 lightgray];",
            "n25 lightblue];"
        ]
    );
}

#[test]
fn mermaid_draws_scopes_as_subgraphs() {
    assert_snapshot!(mermaid(&plan(ERRBACKS), None), @r#"
    flowchart TD
      subgraph s1["s1 errback"]
      n1["n1 a.s()<br/>chain[0]"]
      n2["n2 b.s() after n1<br/>chain[1]"]
      subgraph s2["s2 detached"]
      n3["n3 cb.s(n2)<br/>chain[1].link[0]"]
      end
      end
      subgraph s3["s3 detached"]
      n4["n4 e.s(failure of canvas)<br/>link_error[0]"]
      end
      n1 -.-> n2
      n2 --> n3
      s1 -.-> n4
      linkStyle 2 stroke:red
    "#);
}

#[test]
fn mermaid_draws_joins_and_orders() {
    assert_snapshot!(mermaid(&plan(JOINS), None), @r#"
    flowchart TD
      n1["n1 a.s()<br/>chain[0].group[0]"]
      n2["n2 b.s()<br/>chain[0].group[1]"]
      n3(["n3 join([n1, n2])<br/>chain[1]"])
      n4["n4 c.s(n3)<br/>chain[1].group[0]"]
      n5["n5 d.s() after n3<br/>chain[1].group[1]"]
      n1 --> n3
      n2 --> n3
      n3 --> n4
      n3 -.-> n5
    "#);
}

#[test]
fn mermaid_classes_tell_how_nodes_stand() {
    let (plan, standings) = failed();
    let drawn = mermaid(&plan, Some(&standings));
    for expect in [
        "n21[\"n21 bad.s()<br/>chain[0].header[1]\"]:::failed\n",
        ":::idle\n",
        "classDef failed fill:salmon\n",
    ] {
        assert!(drawn.contains(expect), "{expect}\n{drawn}");
    }
}

#[test]
fn json_has_every_part() {
    let pretty = |text: &str| {
        let drawn = json(&plan(text), None);
        assert!(!drawn.contains('\n'));
        drawn.replace("},{", "},\n{").replace("],\"", "],\n\"")
    };
    assert_snapshot!(pretty("(a.s(1, z=[2]) | group() | b.s().set(queue='hi')).link_error(e.si())"), @r#"
    {"nodes":[{"number":1,"path":"chain[0]","kind":"leaf","task":"a","call":"once","args":[1],
    "kwargs":{"z":[2]},"queue":null,"input":null,"after":[],
    "gate":null,"scope":1},
    {"number":2,"path":"chain[2]","kind":"leaf","task":"b","call":"once","args":[],
    "kwargs":{},"queue":"hi","input":{"const":[],
    "after":[1]},"after":[],
    "gate":null,"scope":1},
    {"number":3,"path":"link_error[0]","kind":"leaf","task":"e","call":"once","args":[],
    "kwargs":{},"queue":null,"input":null,"after":[],
    "gate":1,"scope":2}],
    "edges":[{"from":1,"to":2,"kind":"data","slot":0}],
    "scopes":[{"number":0,"parent":null,"kind":"run"},
    {"number":1,"parent":0,"kind":"errback"},
    {"number":2,"parent":0,"kind":"detached"}],
    "output":{"node":2}}
    "#);
    assert_snapshot!(pretty(JOINS), @r#"
    {"nodes":[{"number":1,"path":"chain[0].group[0]","kind":"leaf","task":"a","call":"once","args":[],
    "kwargs":{},"queue":null,"input":null,"after":[],
    "gate":null,"scope":0},
    {"number":2,"path":"chain[0].group[1]","kind":"leaf","task":"b","call":"once","args":[],
    "kwargs":{},"queue":null,"input":null,"after":[],
    "gate":null,"scope":0},
    {"number":3,"path":"chain[1]","kind":"join","task":null,"call":null,"args":null,"kwargs":null,"queue":null,"input":{"list":[{"node":1},
    {"node":2}]},"after":[],
    "gate":null,"scope":0},
    {"number":4,"path":"chain[1].group[0]","kind":"leaf","task":"c","call":"once","args":[],
    "kwargs":{},"queue":null,"input":{"node":3},"after":[],
    "gate":null,"scope":0},
    {"number":5,"path":"chain[1].group[1]","kind":"leaf","task":"d","call":"once","args":[],
    "kwargs":{},"queue":null,"input":null,"after":[3],
    "gate":null,"scope":0}],
    "edges":[{"from":1,"to":3,"kind":"data","slot":0},
    {"from":2,"to":3,"kind":"data","slot":1},
    {"from":3,"to":4,"kind":"data","slot":0},
    {"from":3,"to":5,"kind":"after"}],
    "scopes":[{"number":0,"parent":null,"kind":"run"}],
    "output":{"list":[{"node":4},
    {"node":5}]}}
    "#);
    assert_snapshot!(pretty("group()"), @r#"
    {"nodes":[],
    "edges":[],
    "scopes":[{"number":0,"parent":null,"kind":"run"}],
    "output":{"const":[],
    "after":[]}}
    "#);
}

#[test]
fn json_tells_how_nodes_stand() {
    let (plan, standings) = failed();
    let drawn = json(&plan, Some(&standings));
    for expect in [
        r#""number":21,"path":"chain[0].header[1]""#,
        r#""standing":"failed""#,
        r#""standing":"blocked","blocked_by":21"#,
    ] {
        assert!(drawn.contains(expect), "{expect}\n{drawn}");
    }
}

/// Texts that mean something to Graphviz, to Mermaid, to HTML or to a terminal.
const ODD: &[&str] = &[
    r#"quote " and \ and \" and \N"#,
    "line\nbreak\r\ttab",
    "<script>alert(1)</script> &amp; &#34;",
    "%%{init: {'theme': 'dark'}}%% end style x:#f00; `**md**` #quot; ~|;",
    "\u{1b}[31mred\u{9b}0m\u{202e}rtl\u{0}",
    "]:::x --> n1[\"",
    "日本語 🦀 é",
];

#[test]
fn odd_names_and_texts_break_no_picture() {
    for odd in ODD {
        for task in ["täsk-1.añb_2", "style.end.class"] {
            let name = TaskName::new(task).unwrap();
            let signature = Signature::of(name).arg(odd).unwrap().kwarg(odd, odd).unwrap();
            let plan = Plan::compile(&Canvas::from(signature)).unwrap();
            check_tree(&tree(&plan, None, FOLD_ABOVE));
            check_dot(&dot(&plan, None));
            check_mermaid(&mermaid(&plan, None));
            let read: serde_json::Value = serde_json::from_str(&json(&plan, None)).unwrap();
            assert_eq!(
                (&read["nodes"][0]["args"][0], &read["nodes"][0]["kwargs"][odd]),
                (&(*odd).into(), &(*odd).into())
            );
            assert_eq!(read["nodes"][0]["task"], task);
        }
    }
}

#[track_caller]
fn check_tree(drawn: &str) {
    assert_eq!(drawn.lines().count(), 2, "{drawn}");
    assert!(!drawn.chars().any(|c| c != '\n' && (c.is_control() || c == '\u{202e}')), "{drawn:?}");
}

/// One statement a line, its quotes balanced, and no entity inside them that was not written on purpose.
#[track_caller]
fn check_dot(drawn: &str) {
    let label = drawn.lines().find(|line| line.starts_with("  n1 ")).unwrap();
    let inside = label
        .strip_prefix("  n1 [label=\"n1 ")
        .unwrap()
        .strip_suffix("\\ncanvas\", peripheries=2];")
        .unwrap();
    let mut characters = inside.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => assert!(matches!(characters.next(), Some('\\' | '"')), "{label}"),
            '&' => assert!(characters.as_str().starts_with("amp;"), "{label}"),
            '"' => panic!("an open quote: {label}"),
            _ => assert!(!character.is_control(), "{label:?}"),
        }
    }
}

/// One statement a line, and inside the quotes nothing but letters, harmless signs and entities.
#[track_caller]
fn check_mermaid(drawn: &str) {
    assert_eq!(drawn.lines().count(), 2, "{drawn}");
    let inside = drawn
        .lines()
        .nth(1)
        .unwrap()
        .strip_prefix("  n1[\"n1 ")
        .unwrap()
        .strip_suffix("<br/>canvas\"]")
        .unwrap();
    for character in inside.chars() {
        assert!(
            character.is_alphanumeric() || " ()[]{},.=-_#;…🦀".contains(character),
            "{character:?} in {inside}"
        );
    }
    let entity = |after: &str| after.split_once(';').is_some_and(|(code, _)| code.parse::<u8>().is_ok());
    assert!(inside.split('#').skip(1).all(entity), "{inside}");
}

#[test]
fn a_plan_from_broken_bytes_is_still_drawn() {
    let bytes = plan("a.s(12) | group() | b.s()").encode();
    let mut drawn = 0;
    for place in 1..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] = b'"';
        if let Ok(plan) = Plan::decode(&changed) {
            let _: serde_json::Value = serde_json::from_str(&json(&plan, None)).unwrap();
            drawn += [tree(&plan, None, 10), dot(&plan, None), mermaid(&plan, None)].len();
        }
    }
    assert!(drawn > 0);
}

#[test]
fn a_hundred_thousand_nodes_make_pictures_in_proportion() {
    let plan = plan("chord((add.s(i, i) for i in range(100000)), xsum.s()).link_error(e.s())");
    assert!(tree(&plan, None, FOLD_ABOVE).len() < 2_000);
    for drawn in [tree(&plan, None, usize::MAX), dot(&plan, None), mermaid(&plan, None), json(&plan, None)] {
        assert!(drawn.len() < 30_000_000, "{} bytes", drawn.len());
        assert!(drawn.contains("99999"));
    }
}
