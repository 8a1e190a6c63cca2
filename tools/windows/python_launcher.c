/* python.exe for the Python whose DLL lies beside it: load the DLL, and call Py_Main.
 *
 * Compiled with -DPYTHON_DLL="L\"python311.dll\"". The environment variable PRELOAD_DLL names a DLL
 * to load before Python starts: etwrec.dll, which records what Python then does.
 */
#include <stdio.h>
#include <windows.h>

#define LONGEST_PATH 4096
#define CANNOT_START 125

typedef int (*PyMain)(int, wchar_t **);

int wmain(int argc, wchar_t **argv)
{
    wchar_t path[LONGEST_PATH + sizeof PYTHON_DLL];
    wchar_t preload[LONGEST_PATH];

    if (GetEnvironmentVariableW(L"PRELOAD_DLL", preload, LONGEST_PATH)
        && !LoadLibraryW(preload)) {
        fwprintf(stderr, L"cannot load %ls: error %lu\n", preload, GetLastError());
        return CANNOT_START;
    }
    DWORD length = GetModuleFileNameW(NULL, path, LONGEST_PATH);
    while (length && path[length - 1] != L'\\')
        length--;
    wcscpy(path + length, PYTHON_DLL);
    HMODULE python = LoadLibraryExW(path, NULL, LOAD_WITH_ALTERED_SEARCH_PATH);
    PyMain py_main = python ? (PyMain)(void *)GetProcAddress(python, "Py_Main") : NULL;
    if (!py_main) {
        fwprintf(stderr, L"cannot start %ls: error %lu\n", path, GetLastError());
        return CANNOT_START;
    }
    return py_main(argc, argv);
}
