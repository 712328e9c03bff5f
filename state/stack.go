package state

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
	"github.com/ipuka/ipuka/state/journal"
)

// stackRef is the name of a stack: three names that follow the grammar. Letter case
// counts.
type stackRef struct{ organization, project, name string }

func (r stackRef) String() string { return r.organization + "/" + r.project + "/" + r.name }

func (r stackRef) args() []any { return []any{r.organization, r.project, r.name} }

func (r stackRef) names() journal.Names {
	return journal.Names{Organization: r.organization, Project: r.project, Stack: r.name}
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,100}$`)

// checkName refuses what is not the name of an organization, a project or a stack.
// "." and ".." would be read as steps in a path by somebody.
func checkName(what, name string) error {
	if !namePattern.MatchString(name) || name == "." || name == ".." {
		return errs.Errorf(errs.Invalid, "the %s name must be 1 to 100 letters, digits, hyphens, underscores and periods, and neither \".\" nor \"..\"", what)
	}
	return nil
}

// refOf returns the stack that the path of r names.
func refOf(r *http.Request) (stackRef, error) {
	ref := stackRef{r.PathValue("org"), r.PathValue("project"), r.PathValue("stack")}
	if err := checkProject(ref.organization, ref.project); err != nil {
		return stackRef{}, err
	}
	return ref, checkName("stack", ref.name)
}

func checkProject(organization, project string) error {
	if err := checkName("organization", organization); err != nil {
		return err
	}
	return checkName("project", project)
}

// stack is a stack. Its id never changes.
type stack struct {
	id           string
	ref          stackRef
	version      int64 // the highest ever given out
	activeUpdate string
	deployment   string // hash
	resources    int64
	lastUpdate   time.Time
	dataKey      []byte // wrapped
	created      time.Time
}

func isNotFound(err error) bool { return errors.Is(err, errs.NotFound) }

// renamedHeader names the stack that a former name stands for, in every answer that
// was given under that name, and in the 404 of those calls that need the current one.
const renamedHeader = "Ipuka-Stack"

// stackOf returns the stack that is called as the path of r says.
func (s *Server) stackOf(r *http.Request) (stack, error) {
	ref, err := refOf(r)
	if err != nil {
		return stack{}, err
	}
	return s.store.stack(r.Context(), ref)
}

// stackOrAlias is stackOf for calls that former names are good for: those that files
// written before a rename still lead to.
func (s *Server) stackOrAlias(w http.ResponseWriter, r *http.Request) (stack, error) {
	ref, err := refOf(r)
	if err != nil {
		return stack{}, err
	}
	st, err := s.resolve(r.Context(), ref)
	if err == nil && st.ref != ref {
		w.Header().Set(renamedHeader, st.ref.String())
	}
	return st, err
}

// resolve returns the stack that is called ref or, when there is none, the one that
// was.
func (s *Server) resolve(ctx context.Context, ref stackRef) (stack, error) {
	st, err := s.store.stack(ctx, ref)
	if isNotFound(err) {
		return s.store.aliased(ctx, ref)
	}
	return st, err
}

// lockIdle locks a stack that no update holds; errs.Conflict when one does.
func (s *Server) lockIdle(ctx context.Context, id string) (stack, error) {
	st, err := s.store.lockStack(ctx, id)
	if err != nil {
		return stack{}, err
	}
	writer, busy, err := s.store.writer(ctx, id)
	if err == nil && busy {
		err = writer.conflict()
	}
	return st, err
}

func (s *Server) projectExists(w http.ResponseWriter, r *http.Request) error {
	organization, project := r.PathValue("org"), r.PathValue("project")
	if err := checkProject(organization, project); err != nil {
		return err
	}
	exists, err := s.store.projectExists(r.Context(), organization, project)
	if err == nil && !exists {
		err = errs.Errorf(errs.NotFound, "project %s/%s not found", organization, project)
	}
	return err
}

type createStackBody struct {
	StackName string            `json:"stackName"`
	Tags      map[string]string `json:"tags"`
	Teams     []string          `json:"teams"`
	State     jsontext.Value    `json:"state"`
	Config    struct {
		Environment string `json:"environment"`
	} `json:"config"`
}

func (s *Server) createStack(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	var body createStackBody
	if err := checkProject(r.PathValue("org"), r.PathValue("project")); err != nil {
		return err
	}
	if err := httpapi.ReadJSON(r, httpapi.Large, &body); err != nil {
		return err
	}
	st := stack{id: uuid.NewString(), ref: stackRef{r.PathValue("org"), r.PathValue("project"), body.StackName}}
	if err := body.check(st.ref); err != nil {
		return err
	}
	// Most refusals are found before a key is made and a state stored for nothing.
	if _, err := s.store.stack(ctx, st.ref); err == nil {
		return errs.Errorf(errs.Conflict, "stack %s already exists", st.ref)
	} else if !isNotFound(err) {
		return err
	}
	var err error
	if st.created, err = s.clock.now(ctx); err != nil {
		return err
	}
	if st.dataKey, err = s.keys.generate(ctx); err != nil {
		return err
	}
	if err := s.insertStack(ctx, st, body); err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, struct {
		Messages []struct{} `json:"messages"`
	}{})
	return nil
}

func (b createStackBody) check(ref stackRef) error {
	if err := checkName("stack", ref.name); err != nil {
		return err
	}
	if len(b.Teams) > 0 {
		return errs.Errorf(errs.Invalid, "this service has no teams: create the stack without --teams and grant access afterwards")
	}
	if b.Config.Environment != "" {
		return errs.Errorf(errs.Invalid, "this service does not keep stack configuration: create the stack without --remote-config")
	}
	return checkTags(b.Tags, ref.project)
}

// insertStack stores a new stack and, where it is created with one, its state.
func (s *Server) insertStack(ctx context.Context, st stack, body createStackBody) error {
	var hash string
	var resources int64
	withState := len(body.State) > 0 && body.State.Kind() != 'n'
	if withState {
		raw, count, err := s.imported(ctx, st, body.State)
		if err != nil {
			return err
		}
		if hash, err = s.deployments.put(ctx, st.id, raw); err != nil {
			return err
		}
		resources = count
	}
	return s.store.db.Tx(ctx, func(ctx context.Context) error {
		st := st
		if err := s.store.insertStack(ctx, st); err != nil {
			return err
		}
		if err := s.store.dropAlias(ctx, st.ref); err != nil {
			return err
		}
		if err := s.store.replaceTags(ctx, st.id, body.Tags); err != nil {
			return err
		}
		if !withState {
			return nil
		}
		_, err := s.record(ctx, &st, "import", hash, resources, st.created)
		return err
	})
}

type operationBody struct {
	Kind    string `json:"kind"`
	Author  string `json:"author"`
	Started int64  `json:"started"`
}

type stackBody struct {
	ID               string            `json:"id"`
	OrgName          string            `json:"orgName"`
	ProjectName      string            `json:"projectName"`
	StackName        string            `json:"stackName"`
	CurrentOperation *operationBody    `json:"currentOperation,omitzero"`
	ActiveUpdate     string            `json:"activeUpdate"`
	Tags             map[string]string `json:"tags"`
	Version          int64             `json:"version"`
}

func (s *Server) readStack(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	st, err := s.stackOf(r)
	if isNotFound(err) {
		// The name is free, but whoever is in front may want to know what it stood for.
		_, _ = s.stackOrAlias(w, r)
		return err
	}
	if err != nil {
		return err
	}
	if st, err = s.settled(ctx, st, false); err != nil {
		return err
	}
	writer, busy, err := s.store.writer(ctx, st.id)
	if err != nil {
		return err
	}
	tags, err := s.store.tags(ctx, st.id)
	if err != nil {
		return err
	}
	body := stackBody{
		ID: st.id, OrgName: st.ref.organization, ProjectName: st.ref.project, StackName: st.ref.name,
		ActiveUpdate: st.activeUpdate, Tags: tags, Version: st.version,
	}
	if busy && writer.status != cancelling {
		body.CurrentOperation = &operationBody{writer.kind, writer.author.Login, writer.started.Unix()}
	}
	httpapi.WriteJSON(w, http.StatusOK, body)
	return nil
}

// deleteStack removes a stack with its history and secrets. Its name is free
// afterwards; its former names are forgotten.
func (s *Server) deleteStack(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	st, err := s.stackOf(r)
	if err != nil {
		return err
	}
	if st, err = s.settled(ctx, st, true); err != nil {
		return err
	}
	force := r.URL.Query().Get("force") == "true"
	err = s.store.db.Tx(ctx, func(ctx context.Context) error {
		st, err := s.lockIdle(ctx, st.id)
		if err != nil {
			return err
		}
		if st.resources > 0 && !force {
			return errs.Errorf(errs.Invalid, "Bad Request: Stack still contains resources.") // clients compare the text
		}
		if err := s.store.addGarbage(ctx, stackPrefix(st.id)); err != nil {
			return err
		}
		return s.store.deleteStack(ctx, st.id)
	})
	if err != nil {
		return err
	}
	s.keys.forget(st.id)
	return noContent(w)
}
