package memory

import (
	"testing"

	"arca/internal/kes/store/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.TestStore(t, &Store{}, storetest.Config{})
}
