package journal

import (
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ipuka/ipuka/internal/errs"
)

// Validate reports whether untyped can be a stack's state: a deployment of schema
// version 1 to 4 with known features, whose resources and pending operations have
// the shape that replay needs. A null deployment is valid and empty. The order and
// the references of the resources are not looked at: the client repairs such states
// through import. The refusals are errs.Invalid.
func Validate(untyped []byte) error {
	env, err := readEnvelope(untyped)
	switch {
	case err != nil:
		return errs.Errorf(errs.Invalid, "the deployment cannot be read: %w", err)
	case !env.present:
		return errs.Errorf(errs.Invalid, `the deployment has no "deployment" member`)
	case env.version < oldestVersion:
		return errs.Errorf(errs.Invalid, "the deployment's schema version %d is too old, export it again with a newer client", env.version)
	case env.version > featureVersion:
		return errs.Errorf(errs.Invalid, "the deployment's schema version %d is too new, version %d is the newest that is known", env.version, featureVersion)
	}
	unknown := slices.DeleteFunc(slices.Clone(env.features), func(name string) bool { return featureBit(name) != 0 })
	if len(unknown) > 0 {
		return errs.Errorf(errs.Invalid, "the deployment uses features that are not known: %q", unknown)
	}
	return nil
}

// ResourceCount returns the number of resources in an untyped deployment, those that
// wait for their deletion included.
func ResourceCount(untyped []byte) (int, error) {
	d, err := readBase(untyped)
	if err != nil {
		return 0, fmt.Errorf("counting resources: %w", err)
	}
	return len(d.resources), nil
}

// Provider is the secrets provider that a deployment names. State is its exact text
// and may be nil.
type Provider struct {
	Type  string
	State jsontext.Value
}

// ProviderOf returns the secrets provider of an untyped deployment, and the zero
// value when it names none.
func ProviderOf(untyped []byte) (Provider, error) {
	d, err := readBase(untyped)
	if err != nil || d.provider == nil {
		return Provider{}, err
	}
	return Provider{Type: d.provider.typ, State: d.provider.state}, nil
}
