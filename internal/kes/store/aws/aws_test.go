package aws

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"arca/internal/kes/store"
	"arca/internal/kes/store/storetest"
)

// fake is Secrets Manager, as far as it is asked.
type fake struct {
	mu   sync.Mutex
	data map[string]string
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	if r.Method == http.MethodGet {
		return
	}
	refuse := func(kind string) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"__type":"com.amazonaws#` + kind + `","message":"no"}`))
	}
	if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AK/") {
		refuse("UnrecognizedClientException")
		return
	}
	var in struct{ Name, SecretID, SecretString, NextToken string }
	var raw map[string]any
	_ = json.Unmarshal(body, &raw)
	text := func(name string) string { s, _ := raw[name].(string); return s }
	in.Name, in.SecretID, in.SecretString, in.NextToken = text("Name"), text("SecretId"), text("SecretString"), text("NextToken")
	value, there := f.data[in.Name+in.SecretID]
	var out any
	switch action := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "secretsmanager."); {
	case action == "CreateSecret" && there:
		refuse("ResourceExistsException")
		return
	case action == "CreateSecret", action == "PutSecretValue":
		f.data[in.Name+in.SecretID] = in.SecretString
	case action == "ListSecrets":
		names := []string{}
		for n := range f.data {
			names = append(names, n)
		}
		slices.Sort(names)
		at, _ := strconv.Atoi(in.NextToken)
		list := []map[string]string{}
		for _, n := range names[at:min(at+2, len(names))] {
			list = append(list, map[string]string{"Name": n})
		}
		page := map[string]any{"SecretList": list}
		if at+2 < len(names) {
			page["NextToken"] = strconv.Itoa(at + 2)
		}
		out = page
	case !there:
		refuse("ResourceNotFoundException")
		return
	case action == "GetSecretValue":
		out = map[string]string{"SecretString": value}
	case action == "DeleteSecret":
		delete(f.data, in.SecretID)
	}
	_ = json.NewEncoder(w).Encode(out)
}

func TestStore(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(&fake{data: map[string]string{}})
	t.Cleanup(srv.Close)
	s, err := Open(t.Context(), Config{Endpoint: srv.URL, Region: "us-east-2", AccessKey: "AK", SecretKey: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	storetest.TestStore(t, s, storetest.Config{})
}

// TestErrors tell neither secrets nor the service's words as they came.
func TestErrors(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(&fake{data: map[string]string{}})
	t.Cleanup(srv.Close)
	s, err := Open(t.Context(), Config{Endpoint: srv.URL, Region: "us-east-2", AccessKey: "OTHER", SecretKey: "topsecretkey"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "k"); err == nil || strings.Contains(err.Error(), "topsecretkey") || !strings.Contains(err.Error(), "UnrecognizedClientException") {
		t.Errorf("got %v", err)
	}
	if _, err := Open(t.Context(), Config{Endpoint: srv.URL}); err == nil {
		t.Error("opened without a region")
	}
}

// TestHostile stands the service's outages and lies.
func TestHostile(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(&fake{data: map[string]string{}})
	t.Cleanup(srv.Close)
	storetest.TestHostile(t, storetest.Hostile{
		URL: srv.URL,
		Open: func(url string) (store.Store, error) {
			return Open(t.Context(), Config{Endpoint: url, Region: "us-east-2", AccessKey: "AK", SecretKey: "secret"})
		},
	})
}
