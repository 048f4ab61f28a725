# mypy: disable-error-code=type-arg
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Direction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DIRECTION_UNSPECIFIED: _ClassVar[Direction]
    PROMPT: _ClassVar[Direction]
    RESPONSE: _ClassVar[Direction]

class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ALLOW: _ClassVar[Action]
    INSPECT: _ClassVar[Action]
    REDACT: _ClassVar[Action]
    BLOCK: _ClassVar[Action]

class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATE_UNSPECIFIED: _ClassVar[State]
    JUDGED: _ClassVar[State]
    SKIPPED: _ClassVar[State]
    PARTIAL: _ClassVar[State]
    LIMIT: _ClassVar[State]

class Confidence(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONFIDENCE_UNSPECIFIED: _ClassVar[Confidence]
    LOW: _ClassVar[Confidence]
    MEDIUM: _ClassVar[Confidence]
    HIGH: _ClassVar[Confidence]
DIRECTION_UNSPECIFIED: Direction
PROMPT: Direction
RESPONSE: Direction
ALLOW: Action
INSPECT: Action
REDACT: Action
BLOCK: Action
STATE_UNSPECIFIED: State
JUDGED: State
SKIPPED: State
PARTIAL: State
LIMIT: State
CONFIDENCE_UNSPECIFIED: Confidence
LOW: Confidence
MEDIUM: Confidence
HIGH: Confidence

class JudgeRequest(_message.Message):
    __slots__ = ("request_id", "direction", "model", "policy", "texts", "final")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    direction: Direction
    model: str
    policy: str
    texts: _containers.RepeatedCompositeFieldContainer[Text]
    final: bool
    def __init__(self, request_id: _Optional[str] = ..., direction: _Optional[_Union[Direction, str]] = ..., model: _Optional[str] = ..., policy: _Optional[str] = ..., texts: _Optional[_Iterable[_Union[Text, _Mapping]]] = ..., final: _Optional[bool] = ...) -> None: ...

class Text(_message.Message):
    __slots__ = ("value", "role")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    value: str
    role: str
    def __init__(self, value: _Optional[str] = ..., role: _Optional[str] = ...) -> None: ...

class JudgeResponse(_message.Message):
    __slots__ = ("action", "state", "findings", "replacements", "reason")
    ACTION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    REPLACEMENTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    action: Action
    state: State
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    replacements: _containers.RepeatedCompositeFieldContainer[Replacement]
    reason: str
    def __init__(self, action: _Optional[_Union[Action, str]] = ..., state: _Optional[_Union[State, str]] = ..., findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ..., replacements: _Optional[_Iterable[_Union[Replacement, _Mapping]]] = ..., reason: _Optional[str] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("text", "start", "end", "rule", "category", "confidence")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    text: int
    start: int
    end: int
    rule: str
    category: str
    confidence: Confidence
    def __init__(self, text: _Optional[int] = ..., start: _Optional[int] = ..., end: _Optional[int] = ..., rule: _Optional[str] = ..., category: _Optional[str] = ..., confidence: _Optional[_Union[Confidence, str]] = ...) -> None: ...

class Replacement(_message.Message):
    __slots__ = ("text", "value")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    text: int
    value: str
    def __init__(self, text: _Optional[int] = ..., value: _Optional[str] = ...) -> None: ...
