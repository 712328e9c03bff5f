package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
	"github.com/ipuka/ipuka/state/journal"
)

// imported checks a deployment that is to become the state of a stack and returns it
// with its number of resources. Its secrets must be readable as the stack's own: a
// service secrets provider has to name the stack. One that names it as it was called
// before comes back with the current name, because a new stack may take the old one.
func (s *Server) imported(ctx context.Context, st stack, raw []byte) ([]byte, int64, error) {
	if err := journal.Validate(raw); err != nil {
		return nil, 0, err
	}
	raw, err := s.ownSecrets(ctx, st, raw)
	if err != nil {
		return nil, 0, err
	}
	count, err := journal.ResourceCount(raw)
	return raw, int64(count), err
}

// ownSecrets returns a deployment in which a service secrets provider names st. Where
// it names another stack the answer is errs.Invalid.
func (s *Server) ownSecrets(ctx context.Context, st stack, raw []byte) ([]byte, error) {
	provider, err := journal.ProviderOf(raw)
	if err != nil || provider.Type != "service" {
		return raw, err
	}
	var owner struct {
		Owner   string `json:"owner"`
		Project string `json:"project"`
		Stack   string `json:"stack"`
	}
	if err := json.Unmarshal(provider.State, &owner); err != nil {
		return nil, errs.Wrap(errs.Invalid, err, "the deployment's secrets provider has a state that is not the service's")
	}
	named := stackRef{owner.Owner, owner.Project, owner.Stack}
	if strings.EqualFold(named.organization, st.ref.organization) {
		named.organization = st.ref.organization // clients write it as it was typed
	}
	if named == st.ref {
		return raw, nil
	}
	if other, err := s.resolve(ctx, named); err != nil || other.id != st.id {
		if err != nil && !isNotFound(err) {
			return nil, err
		}
		return nil, errs.Errorf(errs.Invalid, "the deployment has encrypted secrets from a different stack (%s): import it with the pulumi command, which encrypts them anew", named)
	}
	return setSecretsOwner(raw, st.ref)
}

// setSecretsOwner changes the stack that a service secrets provider names, and no
// other byte.
func setSecretsOwner(raw []byte, ref stackRef) ([]byte, error) {
	members := map[jsontext.Pointer]string{
		"/deployment/secrets_providers/state/owner":   ref.organization,
		"/deployment/secrets_providers/state/project": ref.project,
		"/deployment/secrets_providers/state/stack":   ref.name,
	}
	var out bytes.Buffer
	decoder, last := jsontext.NewDecoder(bytes.NewReader(raw)), int64(0)
	for {
		token, err := decoder.ReadToken()
		if errors.Is(err, io.EOF) {
			out.Write(raw[last:])
			return out.Bytes(), nil
		}
		if err != nil {
			return nil, errs.Wrap(errs.Invalid, err, "the deployment is not JSON")
		}
		if decoder.StackDepth() != 4 || token.Kind() != '"' {
			continue
		}
		if value, ok := members[decoder.StackPointer()]; ok {
			if kind, length := decoder.StackIndex(4); kind != '{' || length%2 != 0 {
				continue // the member's name
			}
			end := decoder.InputOffset()
			start := int64(bytes.LastIndexByte(raw[last:end-1], '"')) + last
			out.Write(raw[last:start])
			out.WriteString(strconv.Quote(value)) // names are plain ASCII
			last = end
		}
	}
}

// importStack makes a deployment the state of the stack, as a new version.
func (s *Server) importStack(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	st, err := s.stackOf(r)
	if err != nil {
		return err
	}
	raw, err := httpapi.ReadBody(r, httpapi.Large)
	if err != nil {
		return err
	}
	raw, count, err := s.imported(ctx, st, raw)
	if err != nil {
		return err
	}
	if st, err = s.settled(ctx, st, true); err != nil {
		return err
	}
	hash, err := s.deployments.put(ctx, st.id, raw)
	if err != nil {
		return err
	}
	now, err := s.clock.now(ctx)
	if err != nil {
		return err
	}
	var u update
	err = s.store.db.Tx(ctx, func(ctx context.Context) error {
		if st, err = s.lockIdle(ctx, st.id); err != nil {
			return err
		}
		u, err = s.record(ctx, &st, "import", hash, count, now)
		return err
	})
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, updateIDBody{u.id})
	return nil
}

type updateIDBody struct {
	UpdateID string `json:"updateId"`
}

// record adds a version that no engine has made to a stack that the caller has
// locked. It carries the configuration of the version before, which clients copy back
// from the latest one.
func (s *Server) record(ctx context.Context, st *stack, kind, hash string, resources int64, now time.Time) (update, error) {
	u := update{
		id: uuid.NewString(), stackID: st.id, kind: kind, status: succeeded, version: st.version + 1,
		created: now, started: now, ended: now, expires: now, author: callerOf(ctx),
		base: st.deployment, deployment: hash, resources: resources, outcome: succeeded,
	}
	previous, err := s.store.versions(ctx, st.id, st.version, st.version)
	if err != nil {
		return update{}, err
	}
	if len(previous) > 0 {
		u.config = previous[0].config
		u.environment, err = carried(previous[0].environment)
		if err != nil {
			return update{}, err
		}
	}
	st.version, st.activeUpdate, st.deployment, st.resources, st.lastUpdate = u.version, u.id, hash, resources, now
	if err := s.store.insertUpdate(ctx, u); err != nil {
		return update{}, err
	}
	return u, s.store.advance(ctx, *st)
}

// carried returns what a version that no engine has made keeps of an environment: the
// list of configuration environments, which belongs to the configuration.
func carried(environment []byte) ([]byte, error) {
	const imports = "stack.environments"
	var all map[string]string
	if err := json.Unmarshal(orObject(environment), &all); err != nil {
		return nil, fmt.Errorf("reading a stored environment: %w", err)
	}
	if value, ok := all[imports]; ok {
		return httpapi.Marshal(map[string]string{imports: value})
	}
	return nil, nil
}
