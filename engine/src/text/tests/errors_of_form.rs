//! What is said about texts that cannot be parsed.

use super::check_error;

#[test]
fn an_empty_text_is_no_canvas() {
    check_error(
        "",
        "
line 1, column 1: the text is empty

  ^ write a signature, such as add.s(2, 2)",
    );
    check_error(
        "# nothing",
        "
line 1, column 10: the text is empty
  # nothing
           ^ write a signature, such as add.s(2, 2)",
    );
}

#[test]
fn brackets_are_closed_by_their_own_kind() {
    check_error(
        "add.s(2, 2",
        "
line 1, column 6: this ( is never closed
  add.s(2, 2
       ^ write ) where it ends",
    );
    check_error(
        "group(add.s(1), [add.s(2)",
        "
line 1, column 17: this [ is never closed
  group(add.s(1), [add.s(2)
                  ^ write ] where it ends",
    );
    check_error(
        "group(add.s(1)]",
        "
line 1, column 15: ] does not close the ( of line 1, column 6
  group(add.s(1)]
                ^ write ) first",
    );
    check_error(
        "group(
  [add.s(1), (1, 2},
)",
        "
line 2, column 19: } does not close the ( of line 2, column 14
    [add.s(1), (1, 2},
                    ^ write ) first",
    );
    check_error(
        "add.s(2))",
        "
line 1, column 9: there is no bracket that this ) closes
  add.s(2))
          ^ leave it out",
    );
    check_error(
        r#"{"a": 1"#,
        r#"
line 1, column 1: this { is never closed
  {"a": 1
  ^ write } where it ends"#,
    );
}

#[test]
fn elements_are_separated_by_commas() {
    check_error(
        "add.s(2 2)",
        "
line 1, column 9: a comma is missing
  add.s(2 2)
          ^ write a comma before 2",
    );
    check_error(
        "group(
    add.s(1),
    add.s(2) mul.s(3),
)",
        "
line 3, column 14: a comma is missing
      add.s(2) mul.s(3),
               ^ write a comma before mul",
    );
    check_error(
        "add.s(hello world)",
        "
line 1, column 13: a comma is missing
  add.s(hello world)
              ^ write a comma before world",
    );
    check_error(
        "add.s(2, ,)",
        "
line 1, column 10: , cannot stand here
  add.s(2, ,)
           ^ write a signature or a value here",
    );
    check_error(
        "[add.s(1) add.s(2)]",
        "
line 1, column 11: a comma is missing
  [add.s(1) add.s(2)]
            ^ write a comma before add",
    );
}

#[test]
fn one_text_holds_one_canvas() {
    check_error(
        "add.s(2) mul.s(3)",
        "
line 1, column 10: the text goes on after its end
  add.s(2) mul.s(3)
           ^ to run one canvas after the other, join them with |",
    );
    check_error(
        "add.s(2), mul.s(3)",
        "
line 1, column 9: the text goes on after its end
  add.s(2), mul.s(3)
          ^ for several canvases, write group(a, b) or a | b",
    );
    check_error(
        "add.s(2)[0]",
        "
line 1, column 9: the text goes on after its end
  add.s(2)[0]
          ^ to run one canvas after the other, join them with |",
    );
    check_error(
        "add.s(2);",
        "
line 1, column 9: ; cannot stand here
  add.s(2);
          ^ a text holds one canvas; join several with | or group(a, b)",
    );
    check_error(
        "result = add.s(2)",
        "
line 1, column 8: = cannot stand here
  result = add.s(2)
         ^ = stands after the name of an argument, as in add.s(2, y=2); == compares",
    );
    check_error(
        "add.s(i) for i in range(3)",
        "
line 1, column 10: a generator alone is no canvas
  add.s(i) for i in range(3)
           ^ put it in group(…), chain(…) or chord(…)",
    );
}

#[test]
fn other_operators_are_pointed_at() {
    check_error(
        "add.s(1) || mul.s(2)",
        "
line 1, column 11: | cannot stand here
  add.s(1) || mul.s(2)
            ^ write one | between two canvases",
    );
    check_error(
        "add.s(1) & mul.s(2)",
        "
line 1, column 10: & cannot stand here
  add.s(1) & mul.s(2)
           ^ write a | b for one after the other, group(a, b) for side by side",
    );
    check_error(
        "add.s(1) |",
        "
line 1, column 11: the text ends too early
  add.s(1) |
            ^ write a signature or a value here",
    );
    check_error(
        "| add.s(1)",
        "
line 1, column 1: | cannot stand here
  | add.s(1)
  ^ write one | between two canvases",
    );
    check_error(
        "~add.s(2)",
        "
line 1, column 1: ~ cannot stand here
  ~add.s(2)
  ^ leave ~ out: the canvas runs when it is submitted",
    );
    check_error(
        ".s(2)",
        "
line 1, column 1: . cannot stand here
  .s(2)
  ^ write a task's name before the dot",
    );
    check_error(
        "add..s(1)",
        "
line 1, column 5: a name is missing after the dot
  add..s(1)
      ^ write a method, such as .s(2, 2)",
    );
    check_error(
        "@add.s(2)",
        "
line 1, column 1: @ cannot stand here
  @add.s(2)
  ^ write a task's name and .s(…)",
    );
    check_error(
        "if",
        "
line 1, column 1: if cannot stand here
  if
  ^ if stands after a for clause: (add.s(i) for i in range(9) if i > 2)",
    );
    check_error(
        "for x in y",
        "
line 1, column 1: for cannot stand here
  for x in y
  ^ put the generator in brackets: [add.s(i) for i in range(9)]",
    );
    check_error(
        "add.s(lambda x: x)",
        "
line 1, column 7: lambda cannot stand here
  add.s(lambda x: x)
        ^ functions cannot be written here; name a task",
    );
}

#[test]
fn arguments_with_names_come_last_and_once() {
    check_error(
        "add.s(y=1, 2)",
        "
line 1, column 12: an argument without a name follows one with a name
  add.s(y=1, 2)
             ^ write the arguments without a name first",
    );
    check_error(
        "add.s(y=1, y=2)",
        "
line 1, column 12: the argument y stands twice
  add.s(y=1, y=2)
             ^ leave one of them out",
    );
    check_error(
        r#"add.s(y=1, **{"y": 2})"#,
        r#"
line 1, column 12: the argument y stands twice
  add.s(y=1, **{"y": 2})
             ^ leave one of them out"#,
    );
    check_error(
        "add.s(1=2)",
        "
line 1, column 8: = cannot stand here
  add.s(1=2)
         ^ = stands after the name of an argument, as in add.s(2, y=2); == compares",
    );
    check_error(
        "add.signature((2, 2), args=(1,))",
        "
line 1, column 23: the argument args of add.signature stands twice
  add.signature((2, 2), args=(1,))
                        ^ leave one of them out",
    );
}

#[test]
fn texts_are_closed_and_their_escapes_exist() {
    check_error(
        r#"add.s("abc)"#,
        r#"
line 1, column 7: this " is never closed
  add.s("abc)
        ^ write " after the text"#,
    );
    check_error(
        "add.s('it's')",
        r#"
line 1, column 11: a quote stands directly after s
  add.s('it's')
            ^ write \' or \" for a quote inside a text, and nothing before a text"#,
    );
    check_error(
        r#"add.s("\d")"#,
        r#"
line 1, column 8: \d is not an escape
  add.s("\d")
         ^ write \\d for a backslash and 'd'"#,
    );
    check_error(
        r"add.s('\ud800')",
        r"
line 1, column 8: \ud800 is not a character
  add.s('\ud800')
         ^ write 4 hexadecimal digits that name a character",
    );
    check_error(
        r#"add.s(f"{x}")"#,
        r#"
line 1, column 7: a quote stands directly after f
  add.s(f"{x}")
        ^ write \' or \" for a quote inside a text, and nothing before a text"#,
    );
    check_error(
        "add.s(“a”)",
        r#"
line 1, column 7: “ cannot stand here
  add.s(“a”)
        ^ write plain quotes: "text""#,
    );
}

#[test]
fn numbers_are_json_numbers() {
    check_error(
        "add.s(NaN)",
        "
line 1, column 7: NaN has no JSON form
  add.s(NaN)
        ^ write a number, or null",
    );
    check_error(
        "add.s(-inf)",
        "
line 1, column 8: inf has no JSON form
  add.s(-inf)
         ^ write a number, or null",
    );
    check_error(
        r#"add.s(float("inf"))"#,
        r#"
line 1, column 7: the function float is not known here
  add.s(float("inf"))
        ^ functions of values are range, zip, list and tuple; a task is called with .s(…)"#,
    );
    check_error(
        "add.s(4x)",
        r#"
line 1, column 7: "4x" is neither a number nor a name
  add.s(4x)
        ^ put texts in quotes; names begin with a letter"#,
    );
    check_error(
        "add.s(007)",
        "
line 1, column 7: a whole number does not begin with 0
  add.s(007)
        ^ write 7",
    );
    check_error(
        "add.s(1__0)",
        r#"
line 1, column 7: "1__0" is not a number
  add.s(1__0)
        ^ an underscore stands between two digits"#,
    );
}

#[test]
fn dictionaries_have_texts_as_keys() {
    check_error(
        "add.s({1, 2})",
        "
line 1, column 7: a set has no JSON form
  add.s({1, 2})
        ^ write a list in [ ], or name: value in a dictionary",
    );
    check_error(
        "add.s({1: 2})",
        r#"
line 1, column 8: the keys of a dictionary are texts
  add.s({1: 2})
         ^ write "1" in quotes"#,
    );
    check_error(
        "add.s({a: 2})",
        r#"
line 1, column 8: the name a is not known
  add.s({a: 2})
         ^ write "a" in quotes for a text; only loop variables stand without"#,
    );
    check_error(
        r#"add.s({"a" 2})"#,
        r#"
line 1, column 12: a colon is missing after the key
  add.s({"a" 2})
             ^ write "key": value"#,
    );
    check_error(
        r#"add.s({"a": i for i in [1]})"#,
        r#"
line 1, column 15: generated dictionaries are not supported
  add.s({"a": i for i in [1]})
                ^ write its members, or a list of pairs"#,
    );
}
