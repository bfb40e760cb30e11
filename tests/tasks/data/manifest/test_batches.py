import pytest

from tasks.data.manifest.batches import read_batches


@pytest.fixture
def read(tmp_path):
    def reader(text):
        path = tmp_path / "batches.yaml"
        path.write_text(text, "utf-8")
        return read_batches(path)

    return reader


def test_batches_come_in_the_order_of_the_file(read):
    assert read("batches: [2024-b, 2024-a, first_one.v2]") == ["2024-b", "2024-a", "first_one.v2"]


def test_empty_list_is_refused_with_the_remedy(read):
    with pytest.raises(ValueError, match=r"batches\.yaml lists no batches: put samples in data/raw/<batch>/"):
        read("batches: []")


@pytest.mark.parametrize("text", ["", "batches:", "batches: first", "- first", "batch: [first]"])
def test_file_without_the_list_is_refused_with_what_was_expected(read, text):
    with pytest.raises(ValueError, match=r"batches\.yaml has no list `batches`"):
        read(text)


@pytest.mark.parametrize(
    "name", ["../elsewhere", "a/b", ".hidden", "-rf", "", "two words", "$(reboot)", "müll", "a\nb"]
)
def test_name_that_is_unsafe_in_a_path_or_a_shell_is_refused(read, name):
    with pytest.raises(ValueError, match="expected a name of letters"):
        read(f"batches: [{name!r}]")


@pytest.mark.parametrize(
    ("name", "kind"), [("2024", "number"), ("2.5", "number"), ("2026-11-20", "date"), ("yes", "yes or no")]
)
def test_name_that_yaml_reads_as_something_else_is_refused_with_the_remedy(read, name, kind):
    with pytest.raises(ValueError, match=rf"lists .*, which YAML takes for a {kind}: write \".*\", in quotes"):
        read(f"batches: [{name}]")


def test_list_that_is_given_twice_is_refused(read):
    with pytest.raises(ValueError, match=r"gives the key 'batches' twice, in lines 1 and 2"):
        read("batches: [a]\nbatches: [b]\n")


def test_batch_listed_twice_is_refused(read):
    with pytest.raises(ValueError, match="lists a batch twice, expected each once: a, b, a"):
        read("batches: [a, b, a]")


def test_error_for_broken_yaml_names_the_file(read):
    with pytest.raises(ValueError, match=r"batches\.yaml"):
        read("batches: [a, b")
