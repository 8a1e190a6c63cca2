"""Tests of typed fields: what they take, what they make of it, and what a message must hold."""

from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw import Field, ValidationError, fields
from eliot_etw._fields import TRACEBACK_SERIALIZER, FieldsSerializer

JSON_CLASSES = [None, str, int, float, bool, bytes, list, dict]
PLACE = {"task_uuid": "u", "task_level": [1], "timestamp": 1.0}

values = st.one_of(
    st.none(),
    st.text(),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.binary(),
    st.lists(st.none(), max_size=2),
    st.dictionaries(st.text(max_size=1), st.none(), max_size=2),
    st.just(object()),
)
names = st.text(min_size=1).filter(
    lambda name: not name.startswith("_") and name not in {*PLACE, "message_type", "action_type"}
)


class Odd(Exception):
    """What odd serializers raise."""


def refuse_negative(value):
    """Raise if a number is below zero."""
    if value < 0:
        raise ValidationError(value, "must not be negative")


def refuse_all(value):
    """Raise for any value."""
    raise Odd(value)


class TestField:
    """One field."""

    def test_attributes(self):
        """A field knows its name and what it means."""
        field = Field("path", str, "The file.")
        assert (field.key, field.description) == ("path", "The file.")

    def test_serialize(self):
        """The serializer makes what is logged; the further check is not asked."""
        assert Field("length", len, "", refuse_all).serialize("four") == 4

    def test_validate_serializes(self):
        """A value that cannot be serialized is not valid; the serializer's own error says why."""
        with pytest.raises(Odd):
            Field("x", refuse_all).validate(1)

    def test_extra_validator(self):
        """The further check decides about the value as it was logged."""
        field = Field("x", abs, "", refuse_negative)
        field.validate(1)
        with pytest.raises(ValidationError, match="must not be negative"):
            field.validate(-1)

    def test_extra_validator_by_name(self):
        """The further check may be given by Eliot's name."""
        with pytest.raises(Odd):
            Field("x", abs, extraValidator=refuse_all).validate(1)

    def test_spellings_of_eliot(self):
        """Eliot's other names do the same."""
        assert Field.for_types == Field.forTypes
        assert Field.for_value == Field.forValue


class TestForValue:
    """Fields of one value."""

    @given(values)
    def test_serialize(self, value):
        """Whatever is given, that one value is logged."""
        assert Field.for_value("x", 7).serialize(value) == 7

    def test_validate(self):
        """That value is valid, no other is."""
        field = Field.for_value("x", 7, "Seven.")
        field.validate(7)
        with pytest.raises(ValidationError, match=r"Field 'x' must be 7, got 8\."):
            field.validate(8)
        assert field.description == "Seven."


class TestForTypes:
    """Fields of JSON's types."""

    @given(st.lists(st.sampled_from(JSON_CLASSES), min_size=1), values)
    def test_validate(self, classes, value):
        """A value is valid exactly if it is of one of the classes."""
        allowed = tuple(type(None) if c is None else c for c in classes)
        is_valid = isinstance(value, allowed)
        with nullcontext() if is_valid else pytest.raises(ValidationError) as refused:
            Field.for_types("x", classes).validate(value)
        assert is_valid or refused.value.args[-1].startswith("Field 'x' must be of type ")

    @given(values)
    def test_serialize(self, value):
        """Any value is logged as it is: in a program nothing is checked."""
        assert Field.for_types("x", [str]).serialize(value) is value

    def test_extra_validator(self):
        """The further check is asked about values of the right type, and only those."""
        field = Field.for_types("x", [int], "A number.", refuse_negative)
        field.validate(1)
        with pytest.raises(ValidationError, match="must not be negative"):
            field.validate(-1)
        with pytest.raises(ValidationError, match="must be of type int"):
            field.validate("one")

    @pytest.mark.parametrize("class_", [object, tuple, set, complex, "int", 7])
    def test_other_class(self, class_):
        """Only JSON's types can be asked for; the error says what to do for others."""
        with pytest.raises(TypeError, match=r"The type of field 'x' .* Use str, int, .*Field\("):
            Field.for_types("x", [str, class_])


class TestFields:
    """`fields`, which lists them."""

    def test_order_and_types(self):
        """Field objects come first, as they are; then those of names, which take that type."""
        path = Field("path", str)
        first, *rest = fields(path, size=int, name=None)
        assert first is path
        assert [field.key for field in rest] == ["size", "name"]
        rest[0].validate(1)
        rest[1].validate(None)
        with pytest.raises(ValidationError, match="must be of type int"):
            rest[0].validate("1")

    @pytest.mark.parametrize("name", ["fields", "keys", "self", "cls"])
    def test_any_name(self, name):
        """No name is ours."""
        assert [field.key for field in fields(**{name: int})] == [name]

    def test_none(self):
        """A type may have no fields."""
        assert fields() == []


class TestSerializer:
    """What a type says about a whole message."""

    @given(st.sets(names, max_size=4), st.sets(names, max_size=4))
    def test_validate(self, declared, logged):
        """A message is valid exactly if it has the declared fields, and its place."""
        serializer = FieldsSerializer(
            [Field.for_value("message_type", "t"), *(Field(name, str) for name in declared)]
        )
        message = {"message_type": "t", **dict.fromkeys(logged, 1), **PLACE}
        refused = pytest.raises(ValidationError, match=r"is missing|is not one of")
        with nullcontext() if declared == logged else refused:
            serializer.validate(message)

    @given(st.dictionaries(names, st.integers()), st.dictionaries(names, st.integers()))
    def test_serialize(self, declared, others):
        """Declared fields are converted in place; whatever else is there stays."""
        others = {name: value for name, value in others.items() if name not in declared}
        serializer = FieldsSerializer(
            [Field.for_value("action_type", "t"), *(Field(name, str) for name in declared)]
        )
        message = {"action_type": "t", **declared, **others, **PLACE}
        serializer.serialize(message)
        expected = {name: str(value) for name, value in declared.items()}
        assert {"action_type": "t", **expected, **others, **PLACE} == message

    def test_wrong_value(self):
        """A message is not valid if one field is not."""
        serializer = FieldsSerializer([Field.for_value("message_type", "t"), *fields(x=int)])
        with pytest.raises(ValidationError, match="'x' must be of type int"):
            serializer.validate({"message_type": "t", "x": "one", **PLACE})

    def test_wrong_type(self):
        """A message of another type is not valid."""
        serializer = FieldsSerializer([Field.for_value("message_type", "t")])
        with pytest.raises(ValidationError, match="'message_type' must be 't', got 'u'"):
            serializer.validate({"message_type": "u", **PLACE})

    def test_additional_fields(self):
        """Where others are allowed, they are valid and stay as they are."""
        serializer = FieldsSerializer([Field.for_value("message_type", "t")], True)
        message = {"message_type": "t", "more": 1}
        serializer.validate(message)
        serializer.serialize(message)
        assert message == {"message_type": "t", "more": 1}

    def test_missing_field(self):
        """A message that lacks a field cannot be serialized."""
        serializer = FieldsSerializer([Field.for_value("message_type", "t"), *fields(x=int)])
        with pytest.raises(KeyError, match="x"):
            serializer.serialize({"message_type": "t"})


class TestDeclaring:
    """What is wrong with a declaration is told when it is made."""

    TYPE = Field.for_value("message_type", "t")

    @pytest.mark.parametrize("field", [object(), "x", int, None])
    def test_no_field(self, field):
        """Only fields can be declared."""
        with pytest.raises(TypeError, match=r"A field must be a Field, got .*\. Use Field"):
            FieldsSerializer([self.TYPE, field])

    def test_same_name_twice(self):
        """Two fields cannot have one name."""
        with pytest.raises(ValueError, match="Field names must differ, got 'x' twice"):
            FieldsSerializer([self.TYPE, Field("x", str), *fields(x=int)])

    @pytest.mark.parametrize("name", ["_x", "__", *PLACE])
    def test_reserved_name(self, name):
        """Names of the framework's own are not the user's."""
        with pytest.raises(ValueError, match=rf"A field name must not .* got '{name}'"):
            FieldsSerializer([self.TYPE, Field(name, str)])

    @pytest.mark.parametrize("keys", [[], ["x"], ["message_type", "action_type"]])
    def test_neither_message_nor_action(self, keys):
        """It must be the type of messages or of actions, not of neither nor both."""
        with pytest.raises(ValueError, match="must have either the field 'action_type' or"):
            FieldsSerializer([Field(key, str) for key in keys])


class TestTraceback:
    """The type of the messages that `write_traceback` logs."""

    def test_round(self):
        """The exception becomes its text, its class a dotted name; what extractors add stays."""
        message = {
            "message_type": "eliot:traceback",
            "reason": KeyError("k"),
            "traceback": "text",
            "exception": KeyError,
            "errno": 2,
        }
        TRACEBACK_SERIALIZER.validate(message)
        TRACEBACK_SERIALIZER.serialize(message)
        assert message == {
            "message_type": "eliot:traceback",
            "reason": "'k'",
            "traceback": "text",
            "exception": "builtins.KeyError",
            "errno": 2,
        }
