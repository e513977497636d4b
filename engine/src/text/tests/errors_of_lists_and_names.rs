//! What is said about lists, numbers and the names of an app.

use super::{check_app, check_args, check_error, check_value};

#[test]
fn generators_go_over_lists_that_end() {
    check_error(
        "group(add.s(i) for i in range(0, 9, 0))",
        "
line 1, column 37: range with step 0 never ends
  group(add.s(i) for i in range(0, 9, 0))
                                      ^ write a step other than 0",
    );
    check_error(
        "group(add.s(i) for i in range(10**12))",
        "
line 1, column 25: range(10**12) makes 1000000000000 numbers, which is too many
  group(add.s(i) for i in range(10**12))
                          ^ generate fewer, or split the canvas into several runs",
    );
    check_error(
        "group(add.s(i) for i in range())",
        "
line 1, column 25: range takes 1 to 3 numbers, not 0
  group(add.s(i) for i in range())
                          ^ write range(stop), range(start, stop) or range(start, stop, step)",
    );
    check_error(
        "group(add.s(i) for i in range(2.5))",
        "
line 1, column 31: range takes whole numbers, not 2.5
  group(add.s(i) for i in range(2.5))
                                ^ write a number such as 10",
    );
    check_error(
        "group(add.s(i) for i in 5)",
        "
line 1, column 25: for goes over a list, not a number
  group(add.s(i) for i in 5)
                          ^ write a list: [4], range(10) or zip(…)",
    );
    check_error(
        "group(add.s(i) for i in 0..10)",
        "
line 1, column 26: a range is not written with dots
  group(add.s(i) for i in 0..10)
                           ^ write range(stop) or range(start, stop)",
    );
    check_error(
        "group(add.s(i) for i)",
        "
line 1, column 21: a for clause is incomplete
  group(add.s(i) for i)
                      ^ write for name in list",
    );
    check_error(
        "group(add.s(a) for a, b in [(1, 2, 3)])",
        "
line 1, column 20: a list of 3 does not fit 2 names
  group(add.s(a) for a, b in [(1, 2, 3)])
                     ^ every item must be a list with one part for each name",
    );
    check_error(
        "group(add.s(i) if i > 2 for i in range(3))",
        "
line 1, column 16: if cannot stand here
  group(add.s(i) if i > 2 for i in range(3))
                 ^ if stands after a for clause: (add.s(i) for i in range(9) if i > 2)",
    );
    check_error("group(add.s(i) for i in range(3) if i = 2)", "
line 1, column 39: = cannot stand here
  group(add.s(i) for i in range(3) if i = 2)
                                        ^ = stands after the name of an argument, as in add.s(2, y=2); == compares");
    check_error(
        r#"group(add.s(i) for i in range(3) if i < "a")"#,
        r#"
line 1, column 39: a number and a text have no order
  group(add.s(i) for i in range(3) if i < "a")
                                        ^ compare numbers with numbers and texts with texts"#,
    );
}

#[test]
fn arithmetic_is_exact_or_refused() {
    check_error(
        "group(add.s(i / 2) for i in range(3))",
        "
line 1, column 15: / cannot stand here
  group(add.s(i / 2) for i in range(3))
                ^ write // to divide whole numbers",
    );
    check_error(
        "group(add.s(i // 0) for i in range(3))",
        "
line 1, column 15: division by zero
  group(add.s(i // 0) for i in range(3))
                ^ write a divisor other than 0",
    );
    check_error(
        "group(add.s(2 ** 200) for i in range(3))",
        "
line 1, column 15: the number is too large to compute with
  group(add.s(2 ** 200) for i in range(3))
                ^ write the result itself",
    );
    check_error(
        "group(add.s(i * 0.5) for i in range(3))",
        "
line 1, column 15: fractions cannot be computed with
  group(add.s(i * 0.5) for i in range(3))
                ^ write the result itself",
    );
    check_error(
        r#"group(add.s(i + "a") for i in range(3))"#,
        r#"
line 1, column 15: a text cannot be computed with
  group(add.s(i + "a") for i in range(3))
                ^ arithmetic is for whole numbers; + also joins two texts"#,
    );
    check_error(
        r#"add.s(-"a")"#,
        r#"
line 1, column 8: minus stands before a text
  add.s(-"a")
         ^ a sign belongs to a number"#,
    );
}

#[test]
fn names_of_an_app_are_resolved() {
    check_app(
        "ad.s(1)",
        r#"
line 1, column 1: there is no task "ad"
  ad.s(1)
  ^ did you mean proj.tasks.add?"#,
    );
    check_app(
        "mul.s(1)",
        r#"
line 1, column 1: "mul" means several tasks
  mul.s(1)
  ^ write other.mul or proj.tasks.mul"#,
    );
    check_app(
        "proj.tasks.ad.s(1)",
        r#"
line 1, column 1: there is no task "proj.tasks.ad"
  proj.tasks.ad.s(1)
  ^ did you mean proj.tasks.add?"#,
    );
    check_app(
        "zzz.s(1)",
        r#"
line 1, column 1: there is no task "zzz"
  zzz.s(1)
  ^ write the name of a task that the app has"#,
    );
    check_app(
        "add(1, 2)",
        "
line 1, column 1: add is a task; it is not called directly
  add(1, 2)
  ^ write add.s(1, 2)",
    );
    check_app(
        "zzz(1, 2)",
        r#"
line 1, column 1: there is no function and no task "zzz"
  zzz(1, 2)
  ^ write group(…), chain(…), chord(…), or a task with .s(…)"#,
    );
    check_app(
        r#"signature("ad")"#,
        r#"
line 1, column 11: there is no task "ad"
  signature("ad")
            ^ did you mean proj.tasks.add?"#,
    );
    check_app(
        "xmap(ad, [1])",
        r#"
line 1, column 6: there is no task "ad"
  xmap(ad, [1])
       ^ did you mean proj.tasks.add?"#,
    );
}

#[test]
fn values_and_arguments_alone() {
    check_value(
        "[1, 2",
        "
line 1, column 1: this [ is never closed
  [1, 2
  ^ write ] where it ends",
    );
    check_value(
        "1, 2",
        "
line 1, column 2: the text goes on after its end
  1, 2
   ^ for several values, write a list: [1, 2]",
    );
    check_value(
        "add.s(1)",
        "
line 1, column 1: a canvas stands where a value is needed
  add.s(1)
  ^ a result is handed on with |, as in add.s(2, 2) | mul.s(8)",
    );
    check_value(
        "",
        r#"
line 1, column 1: the text is empty

  ^ write a value, such as 4 or "text""#,
    );
    check_args(
        "4, z=5, 3",
        "
line 1, column 9: an argument without a name follows one with a name
  4, z=5, 3
          ^ write the arguments without a name first",
    );
    check_args(
        "4)",
        "
line 1, column 2: there is no bracket that this ) closes
  4)
   ^ leave it out",
    );
    check_args(
        "4 5",
        "
line 1, column 3: the text goes on after its end
  4 5
    ^ write a comma between arguments",
    );
    check_args(
        "z=1, z=2",
        "
line 1, column 6: the argument z stands twice
  z=1, z=2
       ^ leave one of them out",
    );
}
