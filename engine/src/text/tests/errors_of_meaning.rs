//! What is said about texts that parse and do not fit together.

use super::check_error;

#[test]
fn a_task_becomes_a_signature_with_s() {
    check_error(
        "add(2, 2)",
        "
line 1, column 1: add is a task; it is not called directly
  add(2, 2)
  ^ write add.s(2, 2)",
    );
    check_error(
        "proj.tasks.add(2, 2)",
        "
line 1, column 12: a task has no method .add
  proj.tasks.add(2, 2)
             ^ to call the task proj.tasks.add, write proj.tasks.add.s(2, 2)",
    );
    check_error(
        "add.s",
        "
line 1, column 1: add.s is not called
  add.s
  ^ write add.s(…)",
    );
    check_error(
        "add",
        "
line 1, column 1: add is a task, not yet a signature
  add
  ^ write add.s(…)",
    );
    check_error(
        "add.s(1) | proj.tasks.mul",
        "
line 1, column 12: proj.tasks.mul is a task, not yet a signature
  add.s(1) | proj.tasks.mul
             ^ write proj.tasks.mul.s(…)",
    );
    check_error(
        "add.sx(2)",
        "
line 1, column 5: a task has no method .sx
  add.sx(2)
      ^ did you mean .s(2)?",
    );
    check_error(
        r#"add.set(queue="hi")"#,
        r#"
line 1, column 5: add is a task, .set is a method of signatures
  add.set(queue="hi")
      ^ write add.s().set(queue="hi")"#,
    );
    check_error(
        "grop(add.s(1))",
        "
line 1, column 1: the function grop is not known
  grop(add.s(1))
  ^ did you mean group(…)? A task is called with grop.s(add.s(1))",
    );
    check_error(
        "a-b.s(2)",
        r#"
line 1, column 1: the name of a task that holds a - is written in quotes
  a-b.s(2)
  ^ write signature("name-with-minus", args=[…])"#,
    );
}

#[test]
fn text_describes_a_canvas_and_runs_nothing() {
    check_error(
        "add.delay(2, 2)",
        "
line 1, column 5: text says what to run and does not run it: leave out .delay
  add.delay(2, 2)
      ^ write add.s(2, 2)",
    );
    check_error(
        r#"add.apply_async((2, 2), queue="hi")"#,
        r#"
line 1, column 5: text says what to run and does not run it: leave out .apply_async
  add.apply_async((2, 2), queue="hi")
      ^ write add.s(…), or add.signature((2, 2), queue="hi")"#,
    );
    check_error("add.s(2, 2)()", "
line 1, column 12: text says what to run and does not run it: leave out this call
  add.s(2, 2)()
             ^ arguments for the whole canvas are given beside it (--args on the command line), or with .clone((…))");
    check_error(
        "add.s(2, 2).get()",
        "
line 1, column 13: text says what to run and does not run it: leave out .get
  add.s(2, 2).get()
              ^ the result is printed or returned when the canvas has run",
    );
    check_error(
        r#"(add.s(2) | mul.s(4)).apply_async((4,), {"z": 5})"#,
        r#"
line 1, column 23: text says what to run and does not run it: leave out .apply_async
  (add.s(2) | mul.s(4)).apply_async((4,), {"z": 5})
                        ^ arguments for the whole canvas are given beside it (--args on the command line), or with .clone((…))"#,
    );
    check_error("(add.s(2) | mul.s(4)).delay(4)", "
line 1, column 23: text says what to run and does not run it: leave out .delay
  (add.s(2) | mul.s(4)).delay(4)
                        ^ arguments for the whole canvas are given beside it (--args on the command line), or with .clone((…))");
    check_error("chord([add.s(1)], xsum.s())(mul.s(2))", "
line 1, column 28: text says what to run and does not run it: leave out this call
  chord([add.s(1)], xsum.s())(mul.s(2))
                             ^ arguments for the whole canvas are given beside it (--args on the command line), or with .clone((…))");
}

#[test]
fn methods_of_canvases_are_few() {
    check_error(
        "add.s(1).s(2)",
        "
line 1, column 10: a canvas has no method .s
  add.s(1).s(2)
           ^ to bind more arguments, write .clone((2,))",
    );
    check_error(
        "add.s(1).map([1])",
        "
line 1, column 10: a canvas has no method .map
  add.s(1).map([1])
           ^ write it on the task: name.map([1])",
    );
    check_error(
        "add.s(1).lnik(mul.s(2))",
        "
line 1, column 10: a canvas has no method .lnik
  add.s(1).lnik(mul.s(2))
           ^ did you mean .link(mul.s(2))?",
    );
    check_error(
        "add.s(1).frobnicate()",
        "
line 1, column 10: a canvas has no method .frobnicate
  add.s(1).frobnicate()
           ^ methods are .set(…), .link(…), .link_error(…), .on_error(…), .finally(…) and .clone(…)",
    );
    check_error(
        "add.s(1).set",
        "
line 1, column 10: the method .set is not called
  add.s(1).set
           ^ write .set(…)",
    );
    check_error(
        "add.s(1).group()",
        "
line 1, column 10: only chunks have the method .group
  add.s(1).group()
           ^ write it after name.chunks(items, n), or write group(…)",
    );
    check_error(
        "add.s(1).link()",
        "
line 1, column 10: .link needs a canvas
  add.s(1).link()
           ^ write .link(callback)",
    );
    check_error(
        "add.s(1).link(mul)",
        "
line 1, column 15: mul is a task, not yet a signature
  add.s(1).link(mul)
                ^ write mul.s(…)",
    );
    check_error(
        "add.s(1).link(mul.s(1), mul.s(2))",
        "
line 1, column 25: .link takes one argument
  add.s(1).link(mul.s(1), mul.s(2))
                          ^ write .link(callback)",
    );
    check_error(
        "add.s(1).clone(4)",
        "
line 1, column 16: args are a list, not a number
  add.s(1).clone(4)
                 ^ write a list: [4], range(10) or zip(…)",
    );
    check_error(
        "group().link(add.s())",
        "
line 1, column 9: an empty group has no member that could call back
  group().link(add.s())
          ^ write a chord, or link the callback elsewhere",
    );
}

#[test]
fn a_canvas_is_no_value() {
    check_error(
        "add.s(mul.s(2))",
        "
line 1, column 7: a canvas stands where a value is needed
  add.s(mul.s(2))
        ^ a result is handed on with |, as in add.s(2, 2) | mul.s(8)",
    );
    check_error(
        "add.s(x=group(add.s(1)))",
        "
line 1, column 9: a canvas stands where a value is needed
  add.s(x=group(add.s(1)))
          ^ a result is handed on with |, as in add.s(2, 2) | mul.s(8)",
    );
    check_error(
        "add.s(1) > mul.s(2)",
        "
line 1, column 1: a canvas stands where a value is needed
  add.s(1) > mul.s(2)
  ^ a result is handed on with |, as in add.s(2, 2) | mul.s(8)",
    );
    check_error(
        "add.s(add.t)",
        r#"
line 1, column 7: add.t is not a value
  add.s(add.t)
        ^ write "add.t" in quotes for a text"#,
    );
    check_error(
        "add.s(x)",
        r#"
line 1, column 7: the name x is not known
  add.s(x)
        ^ write "x" in quotes for a text; only loop variables stand without"#,
    );
}

#[test]
fn a_value_is_no_canvas() {
    check_error(
        "group(1, 2)",
        "
line 1, column 7: a number stands where a canvas is needed
  group(1, 2)
        ^ write a signature, such as add.s(2, 2)",
    );
    check_error(
        r#"chain("add")"#,
        r#"
line 1, column 7: a text stands where a canvas is needed
  chain("add")
        ^ write a signature, such as add.s(2, 2)"#,
    );
    check_error(
        "add.s(1) | 8",
        "
line 1, column 12: a number stands where a canvas is needed
  add.s(1) | 8
             ^ write a signature, such as add.s(2, 2)",
    );
    check_error(
        "add.s(1) | [add.s(2)]",
        "
line 1, column 12: a list stands where one canvas is needed
  add.s(1) | [add.s(2)]
             ^ write group([…]) to run them side by side, a | b for one after the other",
    );
    check_error(
        "chord([1, 2], xsum.s())",
        "
line 1, column 8: a number stands where a canvas is needed
  chord([1, 2], xsum.s())
         ^ write a signature, such as add.s(2, 2)",
    );
    check_error(
        "group(i for i in range(3))",
        "
line 1, column 7: a number stands where a canvas is needed
  group(i for i in range(3))
        ^ write a signature, such as add.s(2, 2)",
    );
    check_error(
        "group(add.s(i) for i in range(3), add.s(4))",
        "
line 1, column 7: a list is the only argument of group, or it is spread
  group(add.s(i) for i in range(3), add.s(4))
        ^ write * before it, and brackets around a generator: *[…]",
    );
    check_error(
        "group(*add.s(1))",
        "
line 1, column 7: * spreads a list of canvases
  group(*add.s(1))
        ^ leave * out",
    );
}

#[test]
fn chords_have_a_header_and_a_body() {
    check_error(
        "chord()",
        "
line 1, column 1: chord needs a header
  chord()
  ^ write chord(header, body)",
    );
    check_error(
        "chord([add.s(1)], xsum.s(), 3)",
        "
line 1, column 29: chord takes at most 2 arguments without names
  chord([add.s(1)], xsum.s(), 3)
                              ^ write chord(header, body)",
    );
    check_error(
        "chord([add.s(1)], boddy=xsum.s())",
        "
line 1, column 19: chord has no argument boddy
  chord([add.s(1)], boddy=xsum.s())
                    ^ did you mean body=…?",
    );
    check_error(
        "chord([add.s(1)])()",
        "
line 1, column 18: a chord is called with its body
  chord([add.s(1)])()
                   ^ write chord(header)(body)",
    );
    check_error(
        r#"chord(group(add.s(1)).set(queue="hi"), xsum.s())"#,
        r#"
line 1, column 7: the options of a group that is a header would be lost
  chord(group(add.s(1)).set(queue="hi"), xsum.s())
        ^ set them on the chord or on the members, or write [group(…)] for one member"#,
    );
    check_error(
        r#"group(queue="hi")"#,
        r#"
line 1, column 7: group has no argument queue
  group(queue="hi")
        ^ options follow as .set(queue=…)"#,
    );
}

#[test]
fn options_have_types() {
    check_error(
        r#"add.s(1).set("hi")"#,
        r#"
line 1, column 14: .set takes no argument without a name
  add.s(1).set("hi")
               ^ write .set(name=value)"#,
    );
    check_error(
        "add.s(1).set(priority=10)",
        "
line 1, column 23: the option priority cannot be 10
  add.s(1).set(priority=10)
                        ^ it takes a whole number from 0 to 9",
    );
    check_error(
        "add.s(1).set(queue=5)",
        "
line 1, column 20: the option queue cannot be 5
  add.s(1).set(queue=5)
                     ^ it takes the name of a queue",
    );
    check_error(
        "add.s(1).set(countdown=-1)",
        "
line 1, column 24: the option countdown cannot be -1
  add.s(1).set(countdown=-1)
                         ^ it takes a number of seconds, not negative",
    );
    check_error(
        r#"add.s(1).set(immutable="yes")"#,
        r#"
line 1, column 24: immutable cannot be a text
  add.s(1).set(immutable="yes")
                         ^ it takes true or false"#,
    );
    check_error(
        "group(add.s(1)).set(on_failure='ignore')",
        "
line 1, column 32: the option on_failure cannot be \"ignore\"
  group(add.s(1)).set(on_failure='ignore')
                                 ^ it takes \"fail\", \"drop\" or \"collect\"",
    );
    check_error(
        "add.s(1).set(link=5)",
        "
line 1, column 19: a number stands where a canvas is needed
  add.s(1).set(link=5)
                    ^ write a signature, such as add.s(2, 2)",
    );
    check_error(
        r#"add.signature((2, 2), {"z": 1}, {"queue": "hi"}, 5)"#,
        r#"
line 1, column 50: add.signature takes at most 3 arguments without names
  add.signature((2, 2), {"z": 1}, {"queue": "hi"}, 5)
                                                   ^ write add.signature(args, kwargs, options)"#,
    );
    check_error(
        r#"signature("add", kwargs=[1])"#,
        r#"
line 1, column 25: kwargs are a dictionary
  signature("add", kwargs=[1])
                          ^ write {"name": value}"#,
    );
    check_error(
        r#"signature("a b")"#,
        r#"
line 1, column 11: "a b" is not a task name
  signature("a b")
            ^ it holds ' '; use letters, digits, '_', '-' and dots"#,
    );
    check_error(
        "signature(5)",
        r#"
line 1, column 11: the name of a task is a text, not a number
  signature(5)
            ^ write signature("proj.tasks.add")"#,
    );
}

#[test]
fn maps_and_chunks_take_a_task_and_items() {
    check_error(
        "add.map(5)",
        "
line 1, column 9: add.map takes a list, not a number
  add.map(5)
          ^ write a list: [4], range(10) or zip(…)",
    );
    check_error(
        "add.map()",
        "
line 1, column 5: add.map needs the list of items
  add.map()
      ^ write add.map(items)",
    );
    check_error(
        r#"add.map([1], queue="hi")"#,
        r#"
line 1, column 14: add.map has no argument queue
  add.map([1], queue="hi")
               ^ options follow as .set(queue=…)"#,
    );
    check_error(
        "add.map([1]).set(immutable=false)",
        "
line 1, column 28: maps and chunks always ignore what comes before them
  add.map([1]).set(immutable=false)
                             ^ leave immutable out",
    );
    check_error(
        "add.chunks([[1, 1]], 0)",
        "
line 1, column 22: the size of chunks is a whole number above 0
  add.chunks([[1, 1]], 0)
                       ^ write a number such as 10",
    );
    check_error(
        "add.chunks([[1, 1]])",
        "
line 1, column 5: add.chunks needs the size of the chunks
  add.chunks([[1, 1]])
      ^ write add.chunks(items, n)",
    );
    check_error(
        "xmap(add.s(1), [1])",
        "
line 1, column 6: xmap calls its task with the items alone
  xmap(add.s(1), [1])
       ^ leave out arguments and options; options follow as .set(…)",
    );
    check_error(
        "xmap(add.s() | mul.s(), [1])",
        "
line 1, column 6: xmap takes a task
  xmap(add.s() | mul.s(), [1])
       ^ write add.s()",
    );
}
