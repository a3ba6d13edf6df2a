package role

import (
	"encoding/json"
	"fmt"
)

// The words by which messages to the peer are told apart. They are transmitted.
const (
	verbHello       = "hello"
	verbGrant       = "grant"
	verbStepDown    = "step-down"
	verbSteppedDown = "stepped-down"
	verbOrder       = "order"
)

// MarshalMessage returns what a node says to its peer, a [Hello], [GrantCame],
// [StepDownAsked], [AnswerStepDown] or [Order], as the verb and the body, JSON, of a
// message.
func MarshalMessage(message any) (verb string, body []byte, err error) {
	switch message.(type) {
	case Hello:
		verb = verbHello
	case GrantCame:
		verb = verbGrant
	case StepDownAsked:
		verb = verbStepDown
	case AnswerStepDown:
		verb = verbSteppedDown
	case Order:
		verb = verbOrder
	default:
		return "", nil, fmt.Errorf("a %T is no message for the peer", message)
	}
	body, err = json.Marshal(message)
	return verb, body, err
}

// UnmarshalMessage is the inverse of [MarshalMessage]; nil for a verb that isn't of
// this package. Keys that it doesn't know are of a newer peer, and skipped.
func UnmarshalMessage(verb string, body []byte) (message any, err error) {
	switch verb {
	case verbHello:
		return parse[Hello](verb, body)
	case verbGrant:
		return parse[GrantCame](verb, body)
	case verbStepDown:
		return parse[StepDownAsked](verb, body)
	case verbSteppedDown:
		return parse[AnswerStepDown](verb, body)
	case verbOrder:
		return parse[Order](verb, body)
	}
	return nil, nil
}

func parse[T any](verb string, body []byte) (any, error) {
	var v T
	if err := json.Unmarshal(body, &v); err != nil {
		return nil, fmt.Errorf("the peer's %s: %w", verb, err)
	}
	return v, nil
}
