package state

import (
	"context"
	"net/http"
	"regexp"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

const (
	projectTag   = "pulumi:project"
	maxTagLength = 256
	maxTags      = 1000
)

var tagPattern = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,40}$`)

// checkTags applies the rules that clients apply too, and keeps the tag that says
// which project the stack belongs to true.
func checkTags(tags map[string]string, project string) error {
	if len(tags) > maxTags {
		return errs.Errorf(errs.Invalid, "a stack can have %d tags at most", maxTags)
	}
	for name, value := range tags {
		if !tagPattern.MatchString(name) {
			return errs.Errorf(errs.Invalid, "a tag name must be 1 to 40 letters, digits, hyphens, underscores, periods and colons")
		}
		if len(value) > maxTagLength {
			return errs.Errorf(errs.Invalid, "the value of tag %s is longer than %d bytes", name, maxTagLength)
		}
		if name == projectTag && value != project {
			return errs.Errorf(errs.Invalid, "tag %s must be the stack's project, %s: rename the stack to move it", projectTag, project)
		}
	}
	return nil
}

// updateTags replaces all tags of a stack.
func (s *Server) updateTags(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	st, err := s.stackOf(r)
	if err != nil {
		return err
	}
	var tags map[string]string
	if err := httpapi.ReadJSON(r, httpapi.Small, &tags); err != nil {
		return err
	}
	err = s.store.db.Tx(ctx, func(ctx context.Context) error {
		st, err := s.store.lockStack(ctx, st.id)
		if err != nil {
			return err
		}
		if err := checkTags(tags, st.ref.project); err != nil {
			return err
		}
		return s.store.replaceTags(ctx, st.id, tags)
	})
	if err != nil {
		return err
	}
	return noContent(w)
}

// retagProject lets the project tag of a stack, if it has one, follow a rename.
func (s *Server) retagProject(ctx context.Context, id, project string) error {
	tags, err := s.store.tags(ctx, id)
	if err != nil {
		return err
	}
	if _, ok := tags[projectTag]; !ok {
		return nil
	}
	tags[projectTag] = project
	return s.store.replaceTags(ctx, id, tags)
}

// readConfig answers that no configuration is kept here: clients then use their file.
func (s *Server) readConfig(_ http.ResponseWriter, r *http.Request) error {
	st, err := s.stackOf(r)
	if err != nil {
		return err
	}
	return errs.Errorf(errs.NotFound, "stack %s has no configuration on this service, it is kept in the file Pulumi.%s.yaml", st.ref, st.ref.name)
}

func (s *Server) updateConfig(_ http.ResponseWriter, r *http.Request) error {
	if _, err := s.stackOf(r); err != nil {
		return err
	}
	return errs.Errorf(errs.Invalid, "this service does not keep stack configuration: keep it in the file Pulumi.STACK.yaml")
}
